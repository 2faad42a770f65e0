"""Paired bootstrap over examples, seeds on top."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000


@dataclass(frozen=True)
class Difference:
    """An arm minus scratch, with its 95 % interval."""

    value: float
    low: float
    high: float

    def verdict(self, higher_is_better: bool) -> str:
        """``better``, ``worse``, or ``within noise`` when the interval holds zero."""
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
    """``Σ(arm - scratch) / Σ weights`` with a percentile interval (Efron & Tibshirani 1993, 13.3).

    Args:
        arm, scratch: ``(seeds, examples)`` values of the same examples and seeds.
        weights: ``(examples,)`` divisors (answer tokens for losses), ones by default.
        resamples: how many; both examples and seeds are drawn with replacement, and an
            example is drawn for both arms and all seeds at once.
        seed: of the resampling.
    """
    differences = np.atleast_2d(np.asarray(arm, float) - np.asarray(scratch, float))
    seeds, examples = differences.shape
    divisors = np.ones(examples) if weights is None else np.asarray(weights, float)
    draw = np.random.default_rng(seed)
    picked = draw.multinomial(examples, np.full(examples, 1 / examples), size=resamples)
    runs = draw.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    means = (picked @ differences.T) / (picked @ divisors)[:, None]
    low, high = np.quantile(_weighted(means, runs), (0.025, 0.975))
    value = differences.mean(0).sum() / divisors.sum()
    return Difference(float(value), float(low), float(high))


def _weighted(means: NDArray[np.float64], runs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the drawn seeds of each resample."""
    return (means * runs).sum(1)
