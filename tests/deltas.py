"""Small merges in memory: parents as tensors, in one call, and tensors that hypothesis draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from mashup._merge.changes import Change, InMemory
from mashup._merge.combine import Recipe, Tensors, merged_values
from mashup._merge.methods import METHODS
from mashup.delta import Delta, Factors, inner
from mashup.settings import MergeSettings
from mashup.sketches import BaseTensor, changes


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers that depend on the seed alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def recipe_for(method: str, weights: Sequence[float], **settings: Any) -> Recipe:
    keys = tuple(f"parent {n}" for n in range(len(weights)))
    return Recipe(METHODS[method], MergeSettings(**settings), tuple(weights), keys)


def merged(
    method: str,
    deltas: Sequence[Tensor],
    weights: Sequence[float] | None = None,
    base: Tensor | None = None,
    **settings: Any,
) -> Tensor:
    """The merged value of one tensor whose parents are ``base + delta``; base 0 by default."""
    origin = torch.zeros_like(deltas[0]) if base is None else base
    weights = weights or [1.0] * len(deltas)
    changes = [Change(InMemory(origin + delta)) for delta in deltas]
    tensors = Tensors("t", tuple(origin.shape), tuple(changes), InMemory(origin))
    pieces = merged_values(recipe_for(method, weights, **settings), tensors)
    return torch.cat([rows.clone() for _, _, rows in pieces])


def float32s(low: int = 1, high: int = 40) -> st.SearchStrategy[Tensor]:
    """One-dimensional float32 tensors; zeros of both signs, denormals and ties are likely."""
    odd = [0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, -1.1754944e-38, 1.0, -1.0, 3.4028235e38]
    numbers = st.one_of(
        st.sampled_from(odd), st.floats(width=32, allow_nan=False, allow_infinity=False)
    )
    drawn = arrays(np.float32, st.integers(low, high), elements=numbers)
    return drawn.map(lambda array: torch.from_numpy(array.copy()))


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
