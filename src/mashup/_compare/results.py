"""From finished runs to records: curves, costs, differences, parity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mashup._compare.arms import Arm
from mashup._train.record import Run
from mashup.results.curve import START_TEST, TEST, Point, read_values
from mashup.results.parity import Parity, fair_parity, paper_parity, reads_test
from mashup.results.records import Record
from mashup.results.statistics import Difference, paired_bootstrap

Values = dict[str, NDArray[np.float64]]
_METRICS = ("dev_loss", "dev_accuracy", "test_loss", "test_accuracy")


@dataclass(frozen=True)
class ArmResult:
    """One arm with one seed and budget.

    Attributes:
        run: the run that was kept (the best learning rate by dev loss).
        overhead: seconds of scoring, merging and learning-rate search.
    """

    arm: Arm
    seed: int
    budget: float
    run: Run
    overhead: dict[str, float]

    @property
    def curve(self) -> tuple[Point, ...]:
        """Of an untrained arm, only its start; else up to the point whose weights were kept."""
        end = self.run.curve.index(self.run.kept) if self.arm.trained else 0
        return self.run.curve[: end + 1]

    @property
    def seconds(self) -> float:
        """Of training, also of the steps after the point that was kept."""
        return self.run.last.seconds if self.arm.trained else 0.0

    @property
    def before(self) -> float:
        """Seconds before the first step."""
        return sum(self.overhead.values())

    @property
    def has_values(self) -> bool:
        """Whether per-example values are there; runs of old versions have none of step 0."""
        return self._values.exists()

    @property
    def _values(self) -> Path:
        return self.run.path / (TEST if self.arm.trained else START_TEST)

    def test_values(self) -> dict[str, list[float]]:
        """Per-example test losses, tokens and hits at the last point of the curve."""
        return read_values(self._values)


def make_records(
    experiment: str,
    task: str,
    results: Sequence[ArmResult],
    pool_of: Callable[[str], str] = lambda arm: arm,
) -> tuple[Record, ...]:
    """All values of a comparison, in a stable order.

    Args:
        experiment, task: names.
        results: of all arms, seeds and budgets.
        pool_of: the arm that an arm is a draw of: differences are those of the mean of its draws.
    """
    records: list[Record] = []
    for result in results:
        records += _curve_records(experiment, task, result)
        records += _cost_records(experiment, task, result)
    pools: dict[str, list[ArmResult]] = {}
    for result in results:
        if result.has_values and result.budget == 1.0:
            for name in dict.fromkeys((result.arm.name, pool_of(result.arm.name))):
                pools.setdefault(name, []).append(result)
    for arm in pools:
        if arm != "scratch" and "scratch" in pools:
            records += _difference_records(experiment, task, arm, "scratch", pools)
        if arm not in ("scratch", "mashup") and "mashup" in pools:
            records += _difference_records(experiment, task, "mashup", arm, pools)
    for result in results:
        scratch = _result(results, "scratch", result.seed)
        if result.budget == 1.0 and scratch:
            records += _parity_records(experiment, task, result, scratch)
    return tuple(records)


def _result(results: Sequence[ArmResult], arm: str, seed: int) -> ArmResult | None:
    """The result of an arm and seed at full budget; None when every rate diverged."""
    found = (r for r in results if (r.arm.name, r.seed, r.budget) == (arm, seed, 1.0))
    return next(found, None)


def _record(
    experiment: str, task: str, result: ArmResult, point: Point, metric: str, value: float | None
) -> Record:
    return Record(
        experiment, task, result.arm.name, result.seed, result.budget,
        point.step, point.seconds, point.tokens, metric, value,
    )  # fmt: skip


def _curve_records(experiment: str, task: str, result: ArmResult) -> list[Record]:
    return [
        _record(experiment, task, result, point, metric, getattr(point, metric))
        for point in result.curve
        for metric in _METRICS
        if getattr(point, metric) is not None
    ]


def _cost_records(experiment: str, task: str, result: ArmResult) -> list[Record]:
    last = result.curve[-1]
    costs = {f"{name}_seconds": value for name, value in result.overhead.items()}
    costs["trainable_parameters"] = result.run.record["trainable_parameters"]
    if result.has_values:
        costs["test_examples"] = len(result.test_values()["tokens"])
    costs["learning_rate"] = result.run.record["config"]["settings"]["learning_rate"]
    costs |= {"train_seconds": result.seconds, "total_seconds": result.seconds + result.before}
    return [_record(experiment, task, result, last, name, value) for name, value in costs.items()]


def _difference_records(
    experiment: str, task: str, arm: str, other: str, pools: Mapping[str, Sequence[ArmResult]]
) -> list[Record]:
    """``arm`` minus ``other`` on the test examples, over all seeds that both have."""
    mine, theirs = _by_seed(pools[arm]), _by_seed(pools[other])
    seeds = [seed for seed in mine if seed in theirs]
    if not seeds:
        return []  # every run of one of them diverged with the seeds of the other
    for_arm, for_other = [mine[seed] for seed in seeds], [theirs[seed] for seed in seeds]
    loss = _difference(for_arm, for_other, "losses", for_arm[0]["tokens"])
    accuracy = _difference(for_arm, for_other, "correct", None)
    suffix = "" if other == "scratch" else f"_over_{other}"
    last = pools[arm][-1].curve[-1]
    named = {f"test_loss_gain{suffix}": loss, f"test_accuracy_gain{suffix}": accuracy}
    return [
        Record(
            experiment, task, arm, -1, 1.0, last.step, last.seconds, last.tokens,
            name, d.value, d.low, d.high,
        )
        for name, d in named.items()
    ]  # fmt: skip


def _by_seed(results: Sequence[ArmResult]) -> dict[int, Values]:
    """Per-example test values by seed, the mean over draws."""
    found: dict[int, list[dict[str, list[float]]]] = {}
    for result in results:
        found.setdefault(result.seed, []).append(result.test_values())
    return {
        seed: {key: np.mean([draw[key] for draw in draws], axis=0) for key in _shared(draws)}
        for seed, draws in found.items()
    }


def _shared(draws: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names that all draws have: runs of earlier versions tell no prompts."""
    return [key for key in draws[0] if all(key in draw for draw in draws)]


def _difference(
    arm: Sequence[Values], scratch: Sequence[Values], key: str, weights: Any
) -> Difference:
    """Of examples that share a prompt the sum is drawn: they are not independent."""
    mine, other = [values[key] for values in arm], [values[key] for values in scratch]
    if "prompts" in arm[0]:
        prompts = arm[0]["prompts"].astype(int)
        weights = np.bincount(prompts, weights)
        mine = [np.bincount(prompts, one).astype(float) for one in mine]
        other = [np.bincount(prompts, one).astype(float) for one in other]
    return paired_bootstrap(mine, other, weights)


def _parity_records(
    experiment: str, task: str, result: ArmResult, scratch: ArmResult
) -> list[Record]:
    arguments = (result.curve, scratch.curve, result.before, scratch.before)
    rules: dict[str, Parity] = {"fair": fair_parity(*arguments)}
    if reads_test(result.curve) and reads_test(scratch.curve):
        rules["paper"] = paper_parity(*arguments)
    values: dict[str, float | None] = {}
    for rule, parity in rules.items():
        values[f"{rule}_parity_steps"] = parity.steps
        values[f"{rule}_parity_seconds"] = parity.seconds
        values[f"{rule}_parity_scratch_steps"] = parity.scratch_steps
        values[f"{rule}_parity_scratch_seconds"] = parity.scratch_seconds
    last = result.curve[-1]
    return [_record(experiment, task, result, last, name, value) for name, value in values.items()]
