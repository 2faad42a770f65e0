"""linear: the exact weighted mean of the deltas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mashup._merge.methods.method import Method

if TYPE_CHECKING:
    from torch import Tensor


def mix(_: Tensor, weights: Sequence[float]) -> tuple[float, ...]:
    return tuple(weights)


LINEAR = Method(
    "linear",
    "λ Σ wᵢ δᵢ, w = 1/k",
    "model soups, arXiv 2203.05482; on deltas, arXiv 2603.10156",
    mix=mix,
    takes=("scale",),
)
