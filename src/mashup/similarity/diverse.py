"""Fit against difference: what each choice gives up, and the choice that gives up least."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mashup.similarity.clusters import Row


def relative(losses: NDArray[np.floating], base: float) -> NDArray[np.floating]:
    """The share of the best one's gain that each lacks: 0 for the best, 1 for the base.

    Args:
        losses: ``(n,)``, at least one, none above ``base``.
        base: the base's loss.
    """
    best = losses.min()
    return (losses - best) / max(base - best, np.finfo(float).tiny)


def marginal(lost: NDArray[np.floating], row: Row, k: int, diversity: float) -> list[int]:
    """Indices of at most ``k``: each has the least ``lost + diversity · cosine`` of those left.

    Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998). The cosine is the largest
    with those chosen before. Below 0 it counts as 0: deltas that point apart cancel in a merge,
    so they are no better company than deltas at right angles. Of equals the first is chosen.

    Args:
        lost: ``(n,)``, what each gives up, see :func:`relative`.
        row: cosines; asked for those chosen only.
        k: how many at most.
        diversity: what a cosine of 1 costs.
    """
    chosen: list[int] = []
    likeness = np.zeros(len(lost))
    for _ in range(min(k, len(lost))):
        price = lost + diversity * likeness
        price[chosen] = np.inf
        chosen.append(int(np.argmin(price)))
        likeness = np.maximum(likeness, row(chosen[-1]))
    return chosen
