"""What a single seed cannot show: how far the runs of other seeds would be from it.

An interval holds the spread over seeds where two arms share several. Where they share one, it
is of the test examples alone, and calls "better" or "worse" what is luck of a run.
So the variance over seeds of those arms that have several is added to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean, variance

from mashup._report.material import Measured
from mashup._report.summary import ArmRow
from mashup.results.statistics import Difference


@dataclass(frozen=True)
class Spread:
    """Variance of one run over seeds, on one target: the mean over arms that have several."""

    accuracy: float
    loss: float


def spread_of(arms: Iterable[ArmRow]) -> Spread | None:
    """Of trained arms; None when every arm has one seed."""
    several = [arm for arm in arms if arm.trained and len(arm.seeds) > 1]
    if not several:
        return None
    return Spread(
        fmean(_variance(arm, lambda run: run.accuracy) for arm in several),
        fmean(_variance(arm, lambda run: run.loss) for arm in several),
    )


def _variance(arm: ArmRow, value: Callable[[Measured], float]) -> float:
    """Over seeds; draws of one seed are its mean."""
    return variance(fmean(value(run) for run in arm.runs if run.seed == seed) for seed in arm.seeds)


def widened(gain: Difference, arm: ArmRow, other: ArmRow, of_a_run: float) -> Difference:
    """The interval of a difference on one seed, with what other seeds may move.

    Args:
        gain: ``arm`` minus ``other``, its interval from the test examples.
        of_a_run: variance over seeds of one run. An untrained arm has none, and the mean over
            draws a part of it.
    """
    shared = arm.seeds & other.seeds
    if len(shared) != 1:
        return gain
    (seed,) = shared
    draws = [sum(run.seed == seed for run in row.runs) for row in (arm, other) if row.trained]
    return gain.widened(sum(of_a_run / number for number in draws))
