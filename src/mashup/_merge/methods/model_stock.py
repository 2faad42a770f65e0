"""model_stock: the mean, drawn towards the base by how much the parents disagree."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from mashup._merge.methods.method import Method

if TYPE_CHECKING:
    from torch import Tensor


def mix(gram: Tensor, weights: Sequence[float]) -> tuple[float, ...]:
    """``t w_i`` with ``t = k cos θ / (1 + (k - 1) cos θ)`` (arXiv 2403.19522, equation 5).

    ``cos θ`` is the mean over the pairs of parents. Parents that point away from each other
    (cos θ < 0) say nothing together: t = 0, the base.
    """
    count, lengths = len(weights), gram.diagonal().clamp(min=0).sqrt()
    pairs = [
        float(gram[i, j] / (lengths[i] * lengths[j])) if lengths[i] * lengths[j] > 0 else 0.0
        for i, j in combinations(range(count), 2)
    ]
    cosine = max(0.0, min(1.0, sum(pairs) / len(pairs)))
    share = count * cosine / (1 + (count - 1) * cosine)
    return tuple(share * weight for weight in weights)


MODEL_STOCK = Method(
    "model_stock",
    "λ t Σ wᵢ δᵢ, t = k cos θ / (1 + (k-1) cos θ), a θ for each tensor",
    "Jang et al., arXiv 2403.19522",
    mix=mix,
    needs_gram=True,
    takes=("scale",),
    parents=(2, 1_000_000),
)
