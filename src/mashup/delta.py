"""Delta: what a checkpoint changes in its base, as exact factors and new values.

A LoRA module's delta is ``s · B @ A`` with ``A (r, d_in)``, ``B (d_out, r)`` and
``s`` = alpha/r, or alpha/sqrt(r) for rsLoRA (LoRA: arXiv 2106.09685, equation 3).
It stays in factors; ``d_out × d_in`` is made only where a model is patched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mashup.checkpoint import Adapter, LoraModule, Opened, open_checkpoint
from mashup.checkpoint.adapter import Kind
from mashup.errors import InputError, Problem
from mashup.weights import read_finite


@dataclass(frozen=True)
class Factors:
    """One module's delta ``scale · B @ A``, float32 or higher.

    Attributes:
        A: ``(rank, d_in)``; for stacked experts ``(experts · rank, d_in)``.
        B: ``(d_out, rank)``; for stacked experts ``(d_out, rank · experts)``, in the layout of
            :class:`mashup.checkpoint.LoraModule`. Each expert has its own delta.
        scale: ``s``.
        kind: of the module in the base.
        experts: how many matrices the module stacks; 1 for a plain one.
    """

    A: Tensor
    B: Tensor
    scale: float
    kind: Kind = "linear"
    experts: int = 1

    @property
    def rank(self) -> int:
        return self.A.shape[0] // self.experts

    @property
    def is_zero(self) -> bool:
        """Whether it changes nothing, like a LoRA before training (B = 0)."""
        return self.scale == 0 or not bool(self.A.any()) or not bool(self.B.any())

    def stacked(self) -> tuple[Tensor, Tensor]:
        """``A`` as ``(experts, rank, d_in)`` and ``B`` as ``(experts, d_out, rank)``."""
        left = self.B.reshape(self.B.shape[0], self.rank, self.experts)
        return self.A.reshape(self.experts, self.rank, -1), left.permute(2, 0, 1)

    def split(self) -> list[Factors]:
        """One pair of matrices per expert."""
        if self.experts == 1:
            return [self]
        both = zip(*self.stacked(), strict=True)
        return [Factors(right, left, self.scale) for right, left in both]

    def dense(self) -> Tensor:
        """The ``(d_out, d_in)`` matrix; ``(experts, d_out, d_in)`` for stacked experts."""
        if self.experts == 1:
            return self.scale * (self.B @ self.A)
        right, left = self.stacked()
        return self.scale * (left @ right)


def inner(one: Factors, other: Factors) -> Tensor:
    """``⟨Δ₁, Δ₂⟩ = s₁ s₂ tr((B₁ᵀB₂)(A₂A₁ᵀ))`` of one module, Frobenius' inner product; float64.

    It comes from ``r₁ × r₂`` matrices alone, whatever the two ranks.
    """
    if one.experts > 1:
        pairs = zip(one.split(), other.split(), strict=True)
        return torch.stack([inner(first, second) for first, second in pairs]).sum()
    left = one.B.double().T @ other.B.double()
    right = one.A.double() @ other.A.double().T
    return one.scale * other.scale * (left * right).sum()


@dataclass(frozen=True)
class Delta:
    """All that a LoRA checkpoint changes in its base, in memory.

    Attributes:
        modules: module name to factors. A module without an entry has a delta of zero.
        fan_in_fan_out: whether the base stores these weights transposed (GPT-2's Conv1D).
        saved: name of a base tensor to its new value, in the stored dtype.
        copied, originals, rows, biases: as in :class:`mashup.checkpoint.Adapter`. Values and rows
            have the stored dtype, biases the dtype of the factors.
    """

    modules: Mapping[str, Factors]
    fan_in_fan_out: bool = False
    saved: Mapping[str, Tensor] = field(default_factory=dict)
    copied: frozenset[str] = frozenset()
    originals: Mapping[str, Tensor] = field(default_factory=dict)
    rows: Mapping[str, tuple[tuple[int, ...], Tensor]] = field(default_factory=dict)
    biases: Mapping[str, tuple[float, Tensor]] = field(default_factory=dict)

    @property
    def is_zero(self) -> bool:
        """Whether it changes nothing in any base. New values never count as nothing."""
        if self.saved or self.rows or any(bool(bias.any()) for _, bias in self.biases.values()):
            return False
        return all(factors.is_zero for factors in self.modules.values())


def read_delta(given: Opened | Path, dtype: torch.dtype = torch.float32) -> Delta:
    """The exact delta of a LoRA, its factors in ``dtype`` (float32 or higher).

    Args:
        given: an adapter that has been opened, or its folder.
        dtype: of the factors.

    Raises:
        InputError: not additive LoRA, unreadable, or weights that are not finite.
    """
    opened = given if isinstance(given, Opened) else open_checkpoint(given)
    if opened.adapter is None or opened.config is None:
        what, fix = "not an adapter", "give the folder of a LoRA"
        raise InputError(Problem(what, str(opened.path), "a full checkpoint", "a LoRA", fix))
    return load_delta(opened.adapter, opened.config.fan_in_fan_out, dtype)


def load_delta(adapter: Adapter, fan_in_fan_out: bool, dtype: torch.dtype) -> Delta:
    """The delta of an adapter whose header has been read.

    Raises:
        InputError: unreadable, or weights that are not finite.
    """
    return Delta(
        {name: _factors(module, dtype) for name, module in adapter.modules.items()},
        fan_in_fan_out,
        {name: read_finite(stored) for name, stored in adapter.saved.items()},
        adapter.copied,
        {name: read_finite(stored) for name, stored in adapter.originals.items()},
        {name: (ids, read_finite(stored)) for name, (ids, stored) in adapter.rows.items()},
        {name: (s, read_finite(stored).to(dtype)) for name, (s, stored) in adapter.biases.items()},
    )


def _factors(module: LoraModule, dtype: torch.dtype) -> Factors:
    right, left = (read_finite(half).to(dtype) for half in (module.A, module.B))
    return Factors(right, left, module.scale, module.kind, module.experts)
