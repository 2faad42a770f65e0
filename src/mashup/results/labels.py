"""How many labels scratch needs to reach the accuracy of another arm.

Accuracies of several training-set sizes are measured on the same test rows. Scratch's accuracy is
interpolated linearly in the logarithm of the number of labels, between measured sizes only. The
interval comes from resampling: one draw of test rows holds for all arms and sizes, so that they
stay paired, and each mean over seeds varies by its standard error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mashup.results.statistics import RESAMPLES, Difference

Array = NDArray[np.float64]
#: An arm and its number of labels.
Key = tuple[str, int]
#: More labels than the largest measured number, and fewer than the smallest.
MORE, FEWER = np.inf, 0.0


@dataclass(frozen=True)
class Drawn:
    """One accuracy, a share, as measured and in every resample.

    Attributes:
        value: as measured.
        draws: ``(resamples,)``.
    """

    value: float
    draws: Array

    @property
    def interval(self) -> Difference:
        """The value with its 95 % percentile interval."""
        low, high = np.quantile(self.draws, (0.025, 0.975))
        return Difference(self.value, float(low), float(high))


def draw_accuracies(
    hits: Mapping[Key, Array], prompts: Array | None = None, *, seed: int = 0
) -> dict[Key, Drawn]:
    """Resample the accuracies of all arms and sizes of one task together.

    Args:
        hits: ``(seeds, examples)`` for each arm and size, 1 where the answer is right; the same
            test examples throughout.
        prompts: ``(examples,)`` number of each example's prompt. Examples of one prompt are drawn
            together. None: every example has its own.
        seed: of the resampling.

    An arm with a single seed varies as the others do on average.
    """
    draw = np.random.default_rng(seed)
    examples = next(iter(hits.values())).shape[1]
    groups = np.arange(examples) if prompts is None else np.unique(prompts, return_inverse=True)[1]
    sizes = np.bincount(groups).astype(float)
    count = len(sizes)
    picked = draw.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    drawn_examples = picked @ sizes
    spread = [one.mean(1).var(ddof=1) for one in hits.values() if len(one) > 1]
    usual = float(np.mean(spread)) if spread else 0.0
    found = {}
    for key, one in hits.items():
        variance = (one.mean(1).var(ddof=1) if len(one) > 1 else usual) / len(one)
        right = picked @ np.bincount(groups, one.mean(0)) / drawn_examples
        noise = draw.normal(0.0, np.sqrt(variance), RESAMPLES)
        found[key] = Drawn(float(one.mean()), right + noise)
    return found


def mean_of(tasks: Sequence[Mapping[Key, Drawn]]) -> dict[Key, Drawn]:
    """The mean over tasks of each arm and size that all of them have."""
    shared = [key for key in tasks[0] if all(key in one for one in tasks)]
    return {
        key: Drawn(
            float(np.mean([one[key].value for one in tasks])),
            np.mean([one[key].draws for one in tasks], axis=0),
        )
        for key in shared
    }


def labels_needed(scratch: Mapping[int, Drawn], level: Drawn) -> Difference:
    """How many labels scratch needs for an accuracy, with the 95 % interval.

    Args:
        scratch: accuracy by number of labels, of two numbers or more.
        level: the accuracy to reach.

    Returns:
        Labels; :data:`MORE` where scratch does not get there with the largest measured number,
        :data:`FEWER` where it is there with less than the smallest. Nothing is extrapolated.
    """
    sizes = sorted(scratch)
    values = np.array([[scratch[size].value] for size in sizes])
    draws = np.array([scratch[size].draws for size in sizes])
    value = _first_crossing(np.array(sizes, float), values, np.array([level.value]))
    needed = _first_crossing(np.array(sizes, float), draws, level.draws)
    low, high = np.quantile(needed, (0.025, 0.975), method="inverted_cdf")
    return Difference(float(value[0]), float(low), float(high))


def _first_crossing(sizes: Array, accuracies: Array, level: Array) -> Array:
    """The least number of labels at which scratch has the level.

    Args:
        sizes: ``(sizes,)``, ascending.
        accuracies: ``(sizes, resamples)``.
        level: ``(resamples,)``.
    """
    needed = np.full(level.shape, MORE)
    logs = np.log(sizes)
    for at in reversed(range(len(sizes) - 1)):  # an earlier crossing replaces a later one
        below, above = accuracies[at], accuracies[at + 1]
        crosses = (below < level) & (above >= level)
        share = (level - below) / np.where(crosses, above - below, 1.0)
        needed = np.where(crosses, np.exp(logs[at] + share * (logs[at + 1] - logs[at])), needed)
    at_least = np.where(accuracies[0] > level, FEWER, sizes[0])
    return np.where(accuracies[0] >= level, at_least, needed)
