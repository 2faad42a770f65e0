"""slerp: along the arc between two deltas instead of the chord."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mashup._merge.methods.method import Method

if TYPE_CHECKING:
    from torch import Tensor

#: Below this angle (radians), or this close to π, an arc and a chord are the same in
#: float64, or the arc is not determined: the weighted mean is used.
_NO_ARC = 1e-4


def mix(gram: Tensor, weights: Sequence[float]) -> tuple[float, ...]:
    """Coefficients ``sin((1-t)θ)/sin θ`` and ``sin(tθ)/sin θ`` (Shoemake 1985, section 3.3).

    ``t`` is the share of the second weight, θ the angle between the deltas.
    """
    if not sum(weights):  # rules may give a tensor weights of zero
        return 0.0, 0.0
    share = weights[1] / (weights[0] + weights[1])
    lengths = math.sqrt(float(gram[0, 0])), math.sqrt(float(gram[1, 1]))
    cosine = float(gram[0, 1]) / (lengths[0] * lengths[1]) if all(lengths) else 1.0
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    if angle < _NO_ARC or math.pi - angle < _NO_ARC:
        return 1 - share, share
    arcs = math.sin((1 - share) * angle), math.sin(share * angle)
    return arcs[0] / math.sin(angle), arcs[1] / math.sin(angle)


SLERP = Method(
    "slerp",
    "λ (sin((1-t)θ) δ₁ + sin(tθ) δ₂) / sin θ, t = w₂ / (w₁ + w₂), a θ for each tensor",
    "Shoemake 1985, doi 10.1145/325165.325242",
    mix=mix,
    needs_gram=True,
    takes=("scale",),
    parents=(2, 2),
)
