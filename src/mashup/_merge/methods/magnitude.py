"""The k-th largest magnitude of a delta that is only seen some rows at a time, exactly."""

from __future__ import annotations

import torch
from torch import Tensor

from mashup._merge.methods.method import Rows

_HALF = 1 << 16


class LargestKept:
    """Keeps the ``k`` numbers of largest magnitude, those that come first where several tie.

    Call it with rows in order; numbers that are dropped become 0.
    """

    def __init__(self, threshold: float, ties: int) -> None:
        self.threshold, self.ties = threshold, ties

    def __call__(self, rows: Tensor) -> Tensor:
        return rows * self.mask(rows)

    def mask(self, rows: Tensor) -> Tensor:
        size = rows.abs().float()  # as the threshold was found
        kept, equal = size > self.threshold, size == self.threshold
        count = int(torch.count_nonzero(equal))
        if 0 < self.ties < count:
            equal &= (equal.flatten().cumsum(0) <= self.ties).view_as(equal)
        if self.ties > 0:
            kept |= equal
        self.ties -= min(self.ties, count)
        return kept


def largest(rows: Rows, k: int) -> LargestKept:
    """What keeps exactly the ``k`` largest magnitudes of a float32 delta; 1 ≤ k ≤ its size.

    Bits of a non-negative float32, read as an integer, are in the order of the numbers: two
    passes of a histogram of 16 bits find the k-th largest without sorting or holding all.
    """
    high = sum(_histogram(chunk, None) for chunk in rows())
    top, above = _bin(torch.as_tensor(high), k)
    low = sum(_histogram(chunk, top) for chunk in rows())
    bottom, within = _bin(torch.as_tensor(low), k - above)
    bits = torch.tensor([top * _HALF + bottom], dtype=torch.int32)
    return LargestKept(float(bits.view(torch.float32)), k - above - within)


def _histogram(rows: Tensor, top: int | None) -> Tensor:
    """Counts of the upper 16 bits; with ``top``, of the lower 16 where the upper are ``top``."""
    bits = rows.abs().flatten().view(torch.int32)
    upper = bits >> 16
    values = upper if top is None else bits[upper == top] & (_HALF - 1)
    return torch.bincount(values, minlength=_HALF)


def _bin(counts: Tensor, k: int) -> tuple[int, int]:
    """The bin that holds the k-th largest, and how many are in the bins above it."""
    from_top = counts.flip(0).cumsum(0)
    place = int(torch.searchsorted(from_top, torch.tensor(k)))
    above = int(from_top[place - 1]) if place else 0
    return len(counts) - 1 - place, above
