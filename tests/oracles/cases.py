"""The merges that mergekit is asked for, and what we are asked for in their place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mashup import merge
from oracles.peers import case


@dataclass(frozen=True)
class Case:
    """A method and parents, with mergekit's parameters and ours.

    Attributes:
        method: as mergekit calls it, and we too.
        parents: names of models.
        theirs: mergekit's parameters of the whole merge.
        each: mergekit's parameters of each parent.
        ours: arguments of :func:`mashup.merge`.
        base: name of our base.
        their_base: name of mergekit's base, which for slerp is one of the two parents.
        dtype: in which mergekit computes; None is that of the files.
    """

    method: str
    parents: tuple[str, ...] = ("p0", "p1", "p2")
    theirs: Mapping[str, Any] = field(default_factory=dict)
    each: tuple[Mapping[str, Any], ...] = ()
    ours: Mapping[str, Any] = field(default_factory=dict)
    base: str = "base"
    their_base: str | None = "base"
    dtype: str | None = "float32"
    out_dtype: str | None = None

    def for_mergekit(self, models: Path, output: Path) -> dict[str, Any]:
        return case(
            self.method,
            [models / name for name in self.parents],
            output,
            base=models / self.their_base if self.their_base else None,
            each=self.each,
            dtype=self.dtype,
            out_dtype=self.out_dtype,
            **self.theirs,
        )


def weights(*values: float) -> tuple[dict[str, float], ...]:
    return tuple({"weight": value} for value in values)


_W = (1.0, 0.5, 2.0)
_EACH, _OURS = weights(*_W), {"weights": _W}
#: Cases in which both must say the same.
EQUAL: dict[str, Case] = {
    "linear": Case(
        "linear", each=weights(0.2, 0.3, 0.5), ours={"weights": (0.2, 0.3, 0.5)}, their_base=None
    ),
    "linear, normalised": Case(
        "linear", each=weights(2, 1, 1), ours={"weights": (0.5, 0.25, 0.25)}, their_base=None
    ),
    "task_arithmetic": Case(
        "task_arithmetic", theirs={"lambda": 0.7}, each=_EACH, ours={**_OURS, "scale": 0.7}
    ),
    "ties": Case("ties", theirs={"density": 0.4}, each=_EACH, ours={**_OURS, "density": 0.4}),
    "ties, scaled": Case(
        "ties", theirs={"density": 0.9, "lambda": 0.3}, each=_EACH,
        ours={**_OURS, "density": 0.9, "scale": 0.3},
    ),
    "breadcrumbs": Case(
        "breadcrumbs", theirs={"density": 0.5, "gamma": 0.1}, each=_EACH,
        ours={**_OURS, "density": 0.5, "gamma": 0.1},
    ),
    "breadcrumbs, few outliers": Case(
        "breadcrumbs", theirs={"density": 0.9, "gamma": 0.3}, each=_EACH,
        ours={**_OURS, "density": 0.9, "gamma": 0.3},
    ),
    "della": Case("della", theirs={"density": 1.0}, each=_EACH, ours={**_OURS, "density": 1.0}),
    "dare_linear": Case(
        "dare_linear", theirs={"density": 1.0}, each=_EACH, ours={**_OURS, "density": 1.0}
    ),
    "dare_ties": Case(
        "dare_ties", theirs={"density": 1.0, "normalize": True}, each=_EACH,
        ours={**_OURS, "density": 1.0},
    ),
    "model_stock": Case("model_stock", ("q0", "q1", "q2")),
    "slerp": Case(
        "slerp", ("p0", "p1"), theirs={"t": 0.3}, ours={"weights": (0.7, 0.3)},
        base="zero", their_base="p0",
    ),
}  # fmt: skip
#: Whole files of mergekit, without their models, and with ours read from the very same file.
FILES: dict[str, str] = {
    "gradients and filters": """
merge_method: task_arithmetic
base_model: base
models:
  - {model: base}
  - model: p0
    parameters:
      weight:
        - {filter: mlp, value: [0, 0.5, 1]}
        - {filter: self_attn.q_proj, value: 0.3}
        - {value: 0.7}
  - model: p1
    parameters: {weight: [1, 0]}
parameters:
  lambda: [{filter: norm, value: 0.5}, {value: 0.9}]
dtype: float32
""",
    "normalised by tensor": """
merge_method: linear
models:
  - {model: p0, parameters: {weight: [{filter: o_proj, value: [1, 3]}, {value: 2}]}}
  - {model: p1, parameters: {weight: [3, 1, 2]}}
  - {model: p2, parameters: {weight: 1}}
dtype: float32
""",
    "densities of each model": """
merge_method: ties
base_model: base
models:
  - {model: p0, parameters: {weight: 1, density: [{filter: mlp, value: [0.2, 0.8]}, {value: 0.5}]}}
  - {model: p1, parameters: {weight: [0.5, 2], density: 0.3}}
  - {model: p2, parameters: {weight: 0.7}}
parameters: {density: 0.6, normalize: true, int8_mask: true}
dtype: float32
""",
    "outliers of each layer": """
merge_method: breadcrumbs
base_model: base
models:
  - {model: p0, parameters: {weight: 1, gamma: [0.05, 0.2]}}
  - {model: p1, parameters: {weight: 0.5}}
parameters: {density: [0.4, 0.7], gamma: 0.1, normalize: true}
dtype: float32
out_dtype: bfloat16
""",
}


def file_for(name: str, models: Path) -> dict[str, Any]:
    """A case of :data:`FILES` with the paths of its models."""
    values = yaml.safe_load(FILES[name])
    values |= {key: str(models / values[key]) for key in ("base_model",) if key in values}
    values["models"] = [one | {"model": str(models / one["model"])} for one in values["models"]]
    return values


_ONE = weights(1.0)
_DROP = {"density": 0.5, "rescale": False}
#: Cases in which they differ; tests say by how much.
DIFFERENT: dict[str, Case] = {
    "dare, not rescaled": Case(
        "dare_linear", ("p0",), theirs=_DROP, each=_ONE, ours={"density": 0.5}
    ),
    "dare, rescaled": Case(
        "dare_linear", ("p0",), theirs={"density": 0.5}, each=_ONE, ours={"density": 0.5}
    ),
    "della, not rescaled": Case(
        "della", ("p0",), theirs={**_DROP, "epsilon": 0.3}, each=_ONE,
        ours={"density": 0.5, "epsilon": 0.3},
    ),
    "dare_ties, by default": Case(
        "dare_ties", theirs={"density": 1.0}, each=_EACH, ours={**_OURS, "density": 1.0}
    ),
    "opposites": Case("model_stock", ("p0", "far")),
    "nearly one line": Case(
        "slerp", ("p0", "near"), theirs={"t": 0.5}, base="zero", their_base="p0"
    ),
    "slerp of weights": Case("slerp", ("p0", "p1"), theirs={"t": 0.5}, their_base="p0"),
    "linear, not normalised": Case(
        "linear", theirs={"normalize": False}, each=weights(1, 1, 1),
        ours={"weights": (1, 1, 1)}, their_base=None,
    ),
    "half, computed in half": Case(
        "task_arithmetic", ("h0", "h1", "h2"), each=_EACH, ours=_OURS,
        base="hbase", their_base="hbase", dtype=None,
    ),
    "half, computed in float32": Case(
        "task_arithmetic", ("h0", "h1", "h2"), each=_EACH, ours=_OURS,
        base="hbase", their_base="hbase", out_dtype="bfloat16",
    ),
}  # fmt: skip


def ours(one: Case, models: Path, output: Path) -> Path:
    """Our merge of a case."""
    given = {"base": models / one.base, "method": one.method, "accept_base": True, **one.ours}
    return merge([models / name for name in one.parents], output=output, **given).path
