"""Delta: what a checkpoint changes in its base, as exact factors.

A LoRA module's delta is ``s · B @ A`` with ``A (r, d_in)``, ``B (d_out, r)`` and
``s`` = alpha/r, or alpha/sqrt(r) for rsLoRA (LoRA: arXiv 2106.09685, equation 3).
It stays in factors; ``d_out × d_in`` is made only where a model is patched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mashup.checkpoint import read_adapter_config
from mashup.checkpoint.adapter import adapter_weights, module_of, read_modules
from mashup.errors import InputError, Problem


@dataclass(frozen=True)
class Factors:
    """One module's delta ``scale · B @ A``, float32 or higher."""

    A: Tensor
    B: Tensor
    scale: float

    @property
    def rank(self) -> int:
        return self.A.shape[0]

    @property
    def is_zero(self) -> bool:
        """Whether it changes nothing, as a LoRA that was never trained does (B = 0)."""
        return self.scale == 0 or not bool(self.A.any()) or not bool(self.B.any())

    def dense(self) -> Tensor:
        """The ``(d_out, d_in)`` matrix."""
        return self.scale * (self.B @ self.A)


@dataclass(frozen=True)
class Delta:
    """Module name to factors; a module that is not named has a delta of zero.

    ``fan_in_fan_out``: the base stores these weights transposed (GPT-2's Conv1D).
    ``saved``: name of a base tensor to its new value.
    """

    modules: Mapping[str, Factors]
    fan_in_fan_out: bool = False
    saved: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def is_zero(self) -> bool:
        return all(factors.is_zero for factors in self.modules.values())


def read_delta(folder: Path, dtype: torch.dtype = torch.float32) -> Delta:
    """The exact delta of a LoRA folder, in ``dtype`` (float32 or higher).

    Raises:
        InputError: not plain LoRA, unreadable, or weights that are not finite.
    """
    config = read_adapter_config(folder)
    shapes = read_modules(folder, config)
    path = adapter_weights(folder)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        problem = Problem("unreadable safetensors", str(path), str(error), fix="copy it again")
        raise InputError(problem) from error
    halves: dict[tuple[str, str], Tensor] = {}
    for key, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(_not_finite(path, key))
        named = module_of(key)
        assert named is not None, key  # read_modules has refused every other name
        halves[named] = tensor.to(dtype)
    return Delta(
        {name: _factors(halves, name, shape.scale) for name, shape in shapes.items()},
        config.fan_in_fan_out,
    )


def _factors(halves: Mapping[tuple[str, str], Tensor], name: str, scale: float) -> Factors:
    return Factors(halves[name, "A"], halves[name, "B"], scale)


def _not_finite(path: Path, key: str) -> Problem:
    found = f"NaN or infinity in {key}"
    fix = "this run diverged; use an earlier checkpoint of it"
    return Problem("weights are not finite", str(path), found, "finite numbers", fix)
