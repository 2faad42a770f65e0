"""Paired bootstrap over examples, with the variance between seeds added."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 10_000
#: Half the width of a 95 % interval of the normal distribution, in standard errors.
NORMAL = 1.959964


@dataclass(frozen=True)
class Difference:
    """An arm minus scratch, with its 95 % interval."""

    value: float
    low: float
    high: float

    def widened(self, variance: float) -> Difference:
        """With the variance of one more, independent source of error added."""
        more = NORMAL * math.sqrt(variance)
        low = self.value - math.hypot(self.value - self.low, more)
        return Difference(self.value, low, self.value + math.hypot(self.high - self.value, more))

    def verdict(self, higher_is_better: bool) -> str:
        """``better`` or ``worse``; ``within noise`` if the interval contains zero."""
        if self.low <= 0 <= self.high:
            return "within noise"
        return "better" if (self.value > 0) == higher_is_better else "worse"


def paired_bootstrap(
    arm: ArrayLike,
    scratch: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """``Σ(arm - scratch) / Σ weights`` with its 95 % interval.

    Over examples, it is a percentile interval (Efron & Tibshirani 1993, 13.3) around the mean of
    the seeds. There are too few seeds to resample (two seeds have three resamples). The standard
    error of their mean is added to each side, in squares.

    Args:
        arm, scratch: ``(seeds, examples)`` values of the same examples and seeds.
        weights: ``(examples,)`` divisors (answer tokens for losses); ones by default.
        resamples: number of resamples. One draw holds for both arms and all seeds.
        seed: of the resampling.
    """
    differences = np.atleast_2d(np.asarray(arm, float) - np.asarray(scratch, float))
    examples = differences.shape[1]
    divisors = np.ones(examples) if weights is None else np.asarray(weights, float)
    draw = np.random.default_rng(seed)
    picked = draw.multinomial(examples, np.full(examples, 1 / examples), size=resamples)
    low, high = np.quantile((picked @ differences.mean(0)) / (picked @ divisors), (0.025, 0.975))
    runs = differences.sum(1) / divisors.sum()
    value = differences.sum() / (len(runs) * divisors.sum())  # divided once: seeds cancel exactly
    found = Difference(float(value), float(low), float(high))
    return found.widened(float(runs.var(ddof=1)) / len(runs)) if len(runs) > 1 else found


def paired_error(
    differences: np.ndarray, weights: np.ndarray, clusters: np.ndarray | None = None
) -> tuple[float, float]:
    """``D = Σd / Σn`` and its standard error, from paired examples.

    That of the ratio estimator, ``sqrt(N/(N-1) · Σ(d_i - D·n_i)²) / Σn`` (Cochran, Sampling
    Techniques, 1977, section 2.11). With all ``n_i = 1`` it is the usual error of a mean. Examples
    of one cluster count as one: their residuals are summed, and N is the number of clusters (the
    ratio estimator of cluster sampling, ibid., 9A.1).

    Args:
        differences: ``(n,)`` d, one for each example.
        weights: ``(n,)`` n, what each example counts.
        clusters: ``(n,)`` which examples are not independent, counted from 0.

    Returns:
        The error is infinite for a single example or a single cluster.
    """
    total = weights.sum()
    mean = differences.sum() / total
    residual = differences - mean * weights
    if clusters is not None:
        residual = np.bincount(clusters, residual)
    count = len(residual)
    if count < 2:
        return float(mean), float("inf")
    return float(mean), float(np.sqrt(count / (count - 1) * (residual**2).sum()) / total)
