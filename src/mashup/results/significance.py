"""From tasks to a claim: means over tasks, Wilcoxon's test, Holm's correction, what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import PermutationMethod, wilcoxon

from mashup.results.statistics import NORMAL, Difference

_ALL_SIGNS = 2**14  # up to so many patterns of signs are all tried: exact
#: Decimals of a difference that count. A mean of seeds and draws has rounding errors of 1e-16; the
#: smallest real differences of accuracy (one example in a million) are far larger.
_DIGITS = 12


def mean_difference(differences: Sequence[Difference]) -> Difference:
    """The mean over tasks, whose test examples are independent: standard errors add in squares.

    It says how sure the mean of *these* tasks is, not of tasks to come; that is Wilcoxon's.
    """
    if len(differences) == 1:
        return differences[0]  # its own interval need not be symmetric
    errors = [(one.high - one.low) / (2 * NORMAL) for one in differences]
    half = NORMAL * math.sqrt(sum(error**2 for error in errors)) / len(errors)
    value = sum(one.value for one in differences) / len(differences)
    return Difference(value, value - half, value + half)


def wilcoxon_p(values: Sequence[float]) -> float | None:
    """Two-sided p of the signed-rank test that paired differences have no sign of their own.

    Wilcoxon 1945; zeros as Pratt (1959) ranks them; by all patterns of signs up to 14 values,
    so that ties are exact as well. None for less than two values, or all zero.

    Args:
        values: one difference a task; what differs by rounding alone counts as equal.
    """
    rounded = np.round(values, _DIGITS)
    if len(rounded) < 2 or not rounded.any():
        return None
    method = PermutationMethod(n_resamples=_ALL_SIGNS, rng=np.random.default_rng(0))
    return float(wilcoxon(rounded, zero_method="pratt", method=method).pvalue)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Adjusted p values of a family of tests (Holm 1979); those that were not made stay None."""
    order = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    worst = 0.0
    for rank, (p, place) in enumerate(order):
        worst = max(worst, min(1.0, p * (len(order) - rank)))
        adjusted[place] = worst
    return adjusted


def least_p(tasks: int) -> float:
    """The smallest p that Wilcoxon's test can give for so many tasks."""
    return min(1.0, 2.0 ** (1 - tasks))


def examples_needed(difference: Difference, examples: int) -> float:
    """How many more test examples would tell a difference of this size from none.

    An interval shrinks with the square root of the examples. Infinite for no difference.

    Args:
        difference: within noise.
        examples: that its interval is from.
    """
    half = (difference.high - difference.low) / 2
    if not difference.value:
        return math.inf
    return max(0.0, examples * ((half / difference.value) ** 2 - 1))
