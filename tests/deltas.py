"""Small merges in memory: parents as tensors, in one call, and tensors that hypothesis draws."""

from __future__ import annotations

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
from mashup.settings import MergeSettings


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
