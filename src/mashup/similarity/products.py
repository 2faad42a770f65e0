"""Inner products and cosines of deltas, from their factors.

Frobenius' inner product over all that two checkpoints change:
``⟨Δ₁, Δ₂⟩ = Σ s₁ s₂ tr((B₁ᵀB₂)(A₂A₁ᵀ))`` over the modules that both adapt, whatever their
ranks, and the plain sum of products over new values. ``d_out × d_in`` is never made.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mashup.delta import Delta, Factors
from mashup.similarity.changed import BaseTensor, changes


def inner(one: Factors, other: Factors) -> Tensor:
    """``⟨Δ₁, Δ₂⟩`` of one module, from ``r₁ × r₂`` matrices alone; float64."""
    if one.experts > 1:
        pairs = zip(one.split(), other.split(), strict=True)
        return torch.stack([inner(first, second) for first, second in pairs]).sum()
    left = one.B.double().T @ other.B.double()
    right = one.A.double() @ other.A.double().T
    return one.scale * other.scale * (left * right).sum()


def delta_inner(one: Delta, other: Delta, base: BaseTensor | None = None) -> float:
    """``⟨Δ₁, Δ₂⟩`` over all that both change.

    A LoRA of a tensor and a new value of the same tensor count as at right angles.

    Args:
        one: any adapter's delta.
        other: that of an adapter of the same base.
        base: the base's tensors by name; needed where values or rows are saved.

    Raises:
        ValueError: there are saved values or rows and no base.
    """
    mine, theirs = dict(changes(one, base)), dict(changes(other, base))
    return sum(_product(mine[name], theirs[name]) for name in mine.keys() & theirs.keys())


def cosine(one: Delta, other: Delta, base: BaseTensor | None = None) -> float:
    """``⟨Δ₁, Δ₂⟩ / (‖Δ₁‖ ‖Δ₂‖)``, in [-1, 1]; 0 where one of them changes nothing.

    Arguments and errors are those of :func:`delta_inner`.
    """
    norms = delta_inner(one, one, base) * delta_inner(other, other, base)
    if norms == 0:
        return 0.0
    return max(-1.0, min(1.0, delta_inner(one, other, base) / math.sqrt(norms)))


def _product(one: Factors | Tensor, other: Factors | Tensor) -> float:
    if isinstance(one, Factors) and isinstance(other, Factors):
        return float(inner(one, other))
    assert isinstance(one, Tensor)  # names tell factors and values apart
    assert isinstance(other, Tensor)
    rows = min(len(one), len(other))  # vocabularies may have grown by different numbers of rows
    return float((one[:rows].double() * other[:rows].double()).sum())
