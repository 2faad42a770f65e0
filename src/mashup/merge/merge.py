"""Merge checkpoints into an init: a standard PEFT folder that any trainer takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from mashup.checkpoint import Checkpoint
from mashup.errors import InputError, Problem
from mashup.files import new_folder, read_json, refuse_existing, to_json, write_text
from mashup.merge import methods
from mashup.merge.algebra import FactorStyle
from mashup.merge.manifest import MANIFEST, card, describe
from mashup.merge.parents import Parent, read_parents
from mashup.merge.write import write_adapter
from mashup.model import Base
from mashup.select import NOTHING_HELPS, Selection

Method = Literal["linear", "factor_average"]


@dataclass(frozen=True)
class Init:
    """A merged start, on disk.

    Attributes:
        path: a PEFT adapter folder with tokenizer, model card and ``mashup.json``.
        manifest: what ``mashup.json`` holds: parents, weights, method, rank, kept energy, ...
    """

    path: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Init:
        """An init that was written before.

        Raises:
            InputError: no ``mashup.json`` there.
        """
        return cls(Path(path), read_json(Path(path) / MANIFEST))

    def noting(self, **values: Any) -> Init:
        """The same init with more values in its manifest, on disk as well."""
        manifest = self.manifest | values
        write_text(self.path / MANIFEST, to_json(manifest))
        return Init(self.path, manifest)


def merge(
    parents: Selection | Sequence[Checkpoint | str | Path],
    *,
    output: str | Path,
    method: Method = "linear",
    weights: Sequence[float] | None = None,
    rank: str | int = "sum",
    factors: FactorStyle = "rotated",
    base: Base | None = None,
    dtype: str = "float32",
    seed: int = 42,
    accept_base: bool = False,
) -> Init:
    """Merge LoRA checkpoints of one base into one adapter and write it as a folder.

    Args:
        parents: a selection, or checkpoints by value or path.
        output: the folder to make; it must not exist.
        method: ``linear`` (exact) or ``factor_average`` (A and B apart, see the docs).
        weights: one a parent, used as given; 1/k each by default.
        rank: ``sum`` (exact), ``max``, a number, or ``energy=X``.
        factors: how the delta is factored; same delta, different training (see the docs).
        base: the loaded base, to carry its tokenizer and name.
        dtype: of the written tensors, ``float32`` or ``bfloat16`` or ``float16``.
        seed: of the rotation.
        accept_base: merge adapters whose base names differ or are blank.

    Raises:
        InputError: no parents, parents that do not go together, or an existing output.
        UsageError: weights or rank that cannot be.
    """
    start = time.perf_counter()
    output = Path(output)
    refuse_existing(output)
    if isinstance(parents, Selection):
        if parents.is_empty:
            raise InputError(Problem("nothing to merge", "selection", NOTHING_HELPS))
        parents = [score.checkpoint for score in parents.chosen if score.checkpoint]
    read = read_parents(parents, weights, accept_base=accept_base)
    merged = methods.rounded(_merge(read, method, rank, factors, seed), getattr(torch, dtype))
    name = base.name if base else read[0].checkpoint.base
    settings = {"method": method, "rank": str(rank), "factors": factors, "seed": seed}
    if method == "factor_average":
        settings |= {"rank": "the parents'", "factors": "the parents' average"}
    manifest = describe(read, merged, name, settings, time.perf_counter() - start)
    with new_folder(output) as folder:
        write_adapter(folder, read, merged, name, base)
        write_text(folder / MANIFEST, to_json(manifest))
        write_text(folder / "README.md", card(manifest))
    return Init(output, manifest)


def _merge(
    parents: Sequence[Parent], method: Method, rank: str | int, style: FactorStyle, seed: int
) -> methods.Merged:
    deltas, weights = [p.delta for p in parents], [p.weight for p in parents]
    if method == "factor_average":
        return methods.factor_average(deltas, weights)
    return methods.linear(deltas, weights, rank=rank, style=style, seed=seed)
