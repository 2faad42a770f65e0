"""task_arithmetic: the sum of the deltas, scaled."""

from __future__ import annotations

from mashup._merge.methods.linear import mix
from mashup._merge.methods.method import Method

TASK_ARITHMETIC = Method(
    "task_arithmetic",
    "λ Σ wᵢ δᵢ, w = 1",
    "Ilharco et al., arXiv 2212.04089",
    mix=mix,
    sums=True,
    takes=("scale",),
)
