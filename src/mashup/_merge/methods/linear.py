"""linear and task_arithmetic: the exact weighted sum of the deltas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mashup._merge.methods.method import Method

if TYPE_CHECKING:
    from torch import Tensor


def mix(_: Tensor, weights: Sequence[float]) -> tuple[float, ...]:
    """The weights as they are."""
    return tuple(weights)


LINEAR = Method(
    "linear",
    "λ Σ wᵢ δᵢ, w = 1/k",
    "model soups, arXiv 2203.05482; on deltas, arXiv 2603.10156",
    mix=mix,
    takes=("scale",),
)
TASK_ARITHMETIC = Method(
    "task_arithmetic",
    "λ Σ wᵢ δᵢ, w = 1",
    "Ilharco et al., arXiv 2212.04089",
    mix=mix,
    sums=True,
    takes=("scale",),
)
