"""Steps along donors that a quadratic model of the loss calls best: plain algebra on arrays.

The model is ``g·w + ½·wᵀHw`` with slopes ``g (N,)`` and a curvature ``H (N, N)`` along donors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SWEEPS = 1000
_CLOSE = 1e-10


def gain(g: Array, H: Array, w: Array) -> float:
    """What the model says that a step changes in the loss: negative is better."""
    return float(g @ w + w @ H @ w / 2)


def single_gains(g: Array, H: Array) -> Array:
    """``-g²/2H`` of the best step along each donor alone, forwards only: ``(N,)``, at most 0."""
    steps = np.maximum(-g / np.diag(H), 0)
    return g * steps / 2


def newton_step(g: Array, H: Array) -> Array:
    """The ``w >= 0`` that minimises the model, ``(N,)``; ``-H⁻¹g`` where that is positive.

    One coordinate after the other (Gauss-Seidel with clipping), which converges to the minimum
    for a positive definite ``H``.
    """
    w = np.zeros(len(g))
    for _ in range(_SWEEPS):
        before = w.copy()
        for i in range(len(g)):
            w[i] = max(0.0, w[i] - (g[i] + H[i] @ w) / H[i, i])
        if np.abs(w - before).max(initial=0) <= _CLOSE * np.abs(w).max(initial=0):
            break
    return w


def greedy_subset(g: Array, H: Array, k: int) -> list[int]:
    """At most ``k`` donors, each the one that lowers the model most beside those before it.

    It ends early where no further donor lowers the model.
    """
    chosen: list[int] = []
    best = 0.0
    while len(chosen) < min(k, len(g)):
        values = {i: _best(g, H, [*chosen, i]) for i in range(len(g)) if i not in chosen}
        i = min(values, key=values.__getitem__)
        if values[i] >= best:
            break
        chosen, best = [*chosen, i], values[i]
    return chosen


def _best(g: Array, H: Array, places: list[int]) -> float:
    part, square = g[places], H[np.ix_(places, places)]
    return gain(part, square, newton_step(part, square))
