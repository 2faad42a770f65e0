"""Statistics over tasks: means, Wilcoxon's test, Holm's correction, examples needed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit
from scipy.stats import PermutationMethod, wilcoxon

from mashup.results.statistics import NORMAL, Difference

_ALL_SIGNS = 2**14  # up to this many patterns of signs, the test is exact
#: Decimals of a difference that count. A mean over seeds has rounding errors of 1e-16. The smallest
#: real difference of accuracy (one example in a million) is far larger.
_DIGITS = 12


def mean_difference(differences: Sequence[Difference]) -> Difference:
    """The mean over tasks. Their test examples are independent, so standard errors add in squares.

    The interval is about the mean of *these* tasks. Wilcoxon's test is about other tasks.
    """
    if len(differences) == 1:
        return differences[0]  # its own interval may be asymmetric
    errors = [(one.high - one.low) / (2 * NORMAL) for one in differences]
    half = NORMAL * math.sqrt(sum(error**2 for error in errors)) / len(errors)
    value = sum(one.value for one in differences) / len(differences)
    return Difference(value, value - half, value + half)


def over_tasks(values: Sequence[float]) -> Difference | None:
    """The mean with Student's 95 % interval over tasks: what other tasks of this kind may have.

    The spread of the values holds the spread of tasks, seeds and test examples together. None for
    fewer than two values.
    """
    if len(values) < 2:
        return None
    mean, count = float(np.mean(values)), len(values)
    half = float(stdtrit(count - 1, 0.975) * np.std(values, ddof=1) / math.sqrt(count))
    return Difference(mean, mean - half, mean + half)


def wilcoxon_p(values: Sequence[float]) -> float | None:
    """Two-sided p value of the signed-rank test that paired differences are centred at zero.

    Wilcoxon 1945; zeros as in Pratt 1959. Up to 14 values, all patterns of signs are tried, so the
    test is exact even with ties. None for fewer than two values, or if all are zero.

    Args:
        values: one difference per task. Differences by rounding count as equal.
    """
    rounded = np.round(values, _DIGITS)
    if len(rounded) < 2 or not rounded.any():
        return None
    method = PermutationMethod(n_resamples=_ALL_SIGNS, rng=np.random.default_rng(0))
    return float(wilcoxon(rounded, zero_method="pratt", method=method).pvalue)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Adjusted p values of a family of tests (Holm 1979); None stays None."""
    order = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    worst = 0.0
    for rank, (p, place) in enumerate(order):
        worst = max(worst, min(1.0, p * (len(order) - rank)))
        adjusted[place] = worst
    return adjusted


def least_p(tasks: int) -> float:
    """The smallest p value that Wilcoxon's test can give for this number of tasks."""
    return min(1.0, 2.0 ** (1 - tasks))


def examples_needed(difference: Difference, examples: int) -> float:
    """How many more test examples would separate a difference of this size from zero.

    An interval shrinks with the square root of the examples. Infinite for a difference of zero.

    Args:
        difference: a difference within noise.
        examples: number of test examples that it was measured on.
    """
    half = (difference.high - difference.low) / 2
    if not difference.value:
        return math.inf
    return max(0.0, examples * ((half / difference.value) ** 2 - 1))
