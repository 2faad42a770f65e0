"""From finished runs to records: curves, costs, differences, parity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mashup.compare.arms import Arm
from mashup.compare.parity import Parity, fair_parity, paper_parity
from mashup.compare.records import Record
from mashup.compare.statistics import Difference, paired_bootstrap
from mashup.files import read_json
from mashup.train import Run
from mashup.train.curve import Point
from mashup.train.run import TEST

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
        """Of an untrained arm, only its start."""
        return self.run.curve if self.arm.trained else self.run.curve[:1]

    @property
    def before(self) -> float:
        """Seconds before the first step."""
        return sum(self.overhead.values())

    def test_values(self) -> dict[str, list[float]]:
        """Per-example test losses, tokens and hits at the end of training."""
        return read_json(self.run.path / TEST)


def make_records(experiment: str, task: str, results: Sequence[ArmResult]) -> tuple[Record, ...]:
    """All values of a comparison, in a stable order."""
    records: list[Record] = []
    for result in results:
        records += _curve_records(experiment, task, result)
        records += _cost_records(experiment, task, result)
    trained = dict.fromkeys(r.arm.name for r in results if r.arm.trained)
    for arm in trained:
        if arm != "scratch":
            records += _difference_records(experiment, task, arm, "scratch", results)
        if arm not in ("scratch", "mashup") and "mashup" in trained:
            records += _difference_records(experiment, task, "mashup", arm, results)
    for result in results:
        if result.budget == 1.0:
            scratch = _result(results, "scratch", result.seed)
            records += _parity_records(experiment, task, result, scratch)
    return tuple(records)


def _result(results: Sequence[ArmResult], arm: str, seed: int) -> ArmResult:
    """The result of an arm and seed at full budget."""
    return next(r for r in results if (r.arm.name, r.seed, r.budget) == (arm, seed, 1.0))


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
    ]


def _cost_records(experiment: str, task: str, result: ArmResult) -> list[Record]:
    last = result.curve[-1]
    costs = {f"{name}_seconds": value for name, value in result.overhead.items()}
    costs["trainable_parameters"] = result.run.record["trainable_parameters"]
    costs["learning_rate"] = result.run.record["config"]["settings"]["learning_rate"]
    costs |= {"train_seconds": last.seconds, "total_seconds": last.seconds + result.before}
    return [_record(experiment, task, result, last, name, value) for name, value in costs.items()]


def _difference_records(
    experiment: str, task: str, arm: str, other: str, results: Sequence[ArmResult]
) -> list[Record]:
    """``arm`` minus ``other`` on the test examples, over all seeds that both have."""
    whole = [r for r in results if r.budget == 1.0]
    others = {r.seed: r for r in whole if r.arm.name == other}
    mine = [r for r in whole if r.arm.name == arm and r.seed in others]
    theirs = [others[r.seed] for r in mine]
    for_arm, for_other = [r.test_values() for r in mine], [r.test_values() for r in theirs]
    loss = _difference(for_arm, for_other, "losses", np.array(for_arm[0]["tokens"]))
    accuracy = _difference(for_arm, for_other, "correct", None)
    suffix = "" if other == "scratch" else f"_over_{other}"
    last = mine[-1].curve[-1]
    named = {f"test_loss_gain{suffix}": loss, f"test_accuracy_gain{suffix}": accuracy}
    return [
        Record(
            experiment, task, arm, -1, 1.0, last.step, last.seconds, last.tokens,
            name, d.value, d.low, d.high,
        )
        for name, d in named.items()
    ]  # fmt: skip


def _difference(
    arm: Sequence[dict[str, Any]], scratch: Sequence[dict[str, Any]], key: str, weights: Any
) -> Difference:
    return paired_bootstrap([v[key] for v in arm], [v[key] for v in scratch], weights)


def _parity_records(
    experiment: str, task: str, result: ArmResult, scratch: ArmResult
) -> list[Record]:
    rules: dict[str, Parity] = {
        "fair": fair_parity(result.curve, scratch.curve, result.before, scratch.before),
        "paper": paper_parity(result.curve, scratch.curve, result.before, scratch.before),
    }
    values: dict[str, float | None] = {}
    for rule, parity in rules.items():
        values[f"{rule}_parity_steps"] = parity.steps
        values[f"{rule}_parity_seconds"] = parity.seconds
        values[f"{rule}_parity_scratch_steps"] = parity.scratch_steps
        values[f"{rule}_parity_scratch_seconds"] = parity.scratch_seconds
    last = result.curve[-1]
    return [_record(experiment, task, result, last, name, value) for name, value in values.items()]
