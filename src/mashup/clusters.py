"""Groups of near-identical deltas: each has a leader, the first in order that it is like."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

#: Deltas of at least this cosine are nearly the same. Measured on 32 adapters of SmolLM2-135M:
#: steps of one run 0.91 to 1.00; other runs from the same seed 0.18 to 0.81 (other tasks), from
#: another seed at most 0.06 (also the same task).
SAME = 0.9

#: Index to the cosines of that one with all, ``(n,)``: a matrix that need not be in memory.
Row = Callable[[int], NDArray[np.floating]]

_BLOCK = 512  # sketches that are compared with all others in one product


def cosine_rows(sketches: NDArray[np.float32]) -> Row:
    """Cosines of sketches ``(n, SIZE)``; one of zeros, or of an overflow, has 0 with all.

    Made for :data:`_BLOCK` rows at a time, so memory grows with ``n``, not with its square.
    """
    vectors = _normal(sketches)

    @lru_cache(maxsize=1)
    def block(number: int) -> NDArray[np.floating]:
        return vectors[number * _BLOCK : (number + 1) * _BLOCK] @ vectors.T

    return lambda index: block(index // _BLOCK)[index % _BLOCK]


def _normal(sketches: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of norm 1, or of zeros; squares of large numbers must not overflow."""
    finite = np.where(np.isfinite(sketches).all(1, keepdims=True), sketches, 0)
    largest = np.abs(finite).max(1, keepdims=True, initial=0)
    scaled = finite / np.where(largest > 0, largest, 1)
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    return (scaled / np.where(norms > 0, norms, 1)).astype(np.float32)


def leaders(row: Row, count: int, same: float, limit: int | None = None) -> NDArray[np.int64]:
    """Index of the leader of each of ``count``, ``(count,)``; a leader has its own.

    Leader clustering (Hartigan, Clustering Algorithms, 1975, chapter 3): in order, whoever is
    like no leader before it becomes one, and the others follow the first that they are like.

    Args:
        row: cosines; asked for leaders only.
        count: how many there are.
        same: the least cosine of two that are near-identical.
        limit: stop at so many leaders; those that are in no group then have -1.
    """
    found = np.full(count, -1, np.int64)
    made = 0
    for index in range(count):
        if found[index] >= 0:
            continue
        if made == limit:
            break
        found[(found < 0) & (row(index) >= same)] = index
        found[index] = index
        made += 1
    return found


def groups(sketches: NDArray[np.float32], same: float) -> NDArray[np.int64]:
    """:func:`leaders` of sketches ``(n, SIZE)``; at most ``n²`` products of their size."""
    return leaders(cosine_rows(sketches), len(sketches), same)
