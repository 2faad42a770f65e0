"""Tables of what is saved: parity by both rules, the budget ladder, the sweep of rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, median

from mashup._report import numbers
from mashup._report.experiment.cells import Titled, loss, percent, seconds, whole
from mashup._report.experiment.summary import End, Study, Target
from mashup._report.material import Measured
from mashup._report.summary import SCRATCH, Rung
from mashup._report.tables import Cell, Table

_RULES = {"fair": "fair rule", "paper": "paper's rule (flattering)"}


def parity_table(study: Study) -> Titled:
    """How many runs reach scratch's quality, and with which share of its steps and seconds."""
    columns = (
        *("Arm", "Rule", "Runs", "Reached", "Never", "Share of the steps"),
        "Share of the seconds",
    )
    rows = tuple(
        _parity(arm, rule, _trained_runs(study, arm))
        for arm in study.arms
        for rule in _RULES
        if _trained_runs(study, arm)
    )
    note = (
        "A run is one target and seed. Shares are medians over the runs that get there, of what "
        "scratch needs by the same rule; all of an arm's costs are charged. Runs that never get "
        "there are in no share: read both columns. By the paper's rule scratch is charged its "
        "whole run, so even scratch itself saves."
    )
    return Titled("parity", "Steps and seconds to parity", Table(columns, rows, words=2), note)


def _trained_runs(study: Study, arm: str) -> list[Measured]:
    runs = [run for row in study.rows(arm) for run in row.runs if row.trained]
    return [run for run in runs if "fair_parity_steps" in run.values]


def _parity(arm: str, rule: str, runs: Sequence[Measured]) -> tuple[Cell, ...]:
    reached = [run for run in runs if run.values[f"{rule}_parity_steps"] is not None]
    return (
        Cell(arm),
        Cell(_RULES[rule]),
        whole(len(runs)),
        whole(len(reached)),
        whole(len(runs) - len(reached)),
        _share(rule, "steps", reached),
        _share(rule, "seconds", reached),
    )


def _share(rule: str, unit: str, runs: Sequence[Measured]) -> Cell:
    pairs = [
        (run.values[f"{rule}_parity_{unit}"] or 0.0, run.values[f"{rule}_parity_scratch_{unit}"])
        for run in runs
    ]
    shares = [mine / theirs for mine, theirs in pairs if theirs]
    return percent(median(shares)) if shares else Cell(numbers.NONE)


def ladder_table(study: Study) -> Titled | None:
    """Arm by budget: means over targets, and how many targets are as good as scratch's whole."""
    keys = dict.fromkeys((rung.arm, rung.budget) for t in study.targets for rung in t.ladder)
    if not keys:
        return None
    columns = (
        *("Arm", "Budget", "Dev loss", "Test accuracy", "Total seconds"),
        "Targets at or below scratch's whole dev loss",
    )
    note = "Every run has a schedule of its own that decays fully. Means over targets and seeds."
    rows = tuple(_rung(arm, budget, study.targets) for arm, budget in keys)
    return Titled("ladder", "Budget ladder", Table(columns, rows), note)


def _rung(arm: str, budget: float, targets: Sequence[Target]) -> tuple[Cell, ...]:
    found = [(rung, target) for target in targets if (rung := rung_of(target, arm, budget))]
    rungs = [rung for rung, _ in found]
    levels = [(rung, rung_of(target, SCRATCH, 1.0)) for rung, target in found]
    reached = sum(full is not None and rung.dev_loss <= full.dev_loss for rung, full in levels)
    return (
        Cell(arm),
        Cell(f"{100 * budget:.0f} %", value=budget),
        loss(fmean(rung.dev_loss for rung in rungs)),
        percent(fmean(rung.accuracy for rung in rungs)),
        seconds(fmean(rung.seconds for rung in rungs)),
        Cell(f"{reached} of {len(rungs)}", value=reached),
    )


def rung_of(target: Target, arm: str, budget: float) -> Rung | None:
    """One rung of a target's ladder."""
    found = (rung for rung in target.ladder if (rung.arm, rung.budget) == (arm, budget))
    return next(found, None)


def rates_table(study: Study) -> Titled | None:
    """Learning-rate sweep: where the runs of each arm and rate end, means over targets."""
    keys = dict.fromkeys(
        (end.arm, end.rate) for target in study.targets for end in target.ends
    )  # fmt: skip
    if len({rate for _, rate in keys}) < 2:
        return None
    columns = (
        *("Arm", "Learning rate", "Runs", "Diverged", "Taken", "Dev loss", "Test loss"),
        "Test accuracy",
    )
    rows = tuple(_rate(arm, rate, study) for arm, rate in sorted(keys, key=_placed(study)))
    note = (
        "Taken: for how many targets and seeds this rate had the least dev loss. Means are over "
        "the runs of a row: rows with other numbers of runs are of other targets."
    )
    return Titled("rates", "Learning rates", Table(columns, rows), note)


def _placed(study: Study) -> Callable[[tuple[str, float]], tuple[int, float]]:
    order = {arm: place for place, arm in enumerate(study.arms)}
    return lambda key: (order.get(key[0], len(order)), key[1])


def _rate(arm: str, rate: float, study: Study) -> tuple[Cell, ...]:
    ends = ends_of(study, arm, rate)
    healthy = [end for end in ends if end.dev_loss is not None]
    runs = [run for row in study.rows(arm) for run in row.runs]
    taken = sum(run.values.get("learning_rate") == rate for run in runs)
    counts = (whole(len(ends)), whole(len(ends) - len(healthy)), whole(taken))
    return (Cell(arm), Cell(f"{rate:g}", value=rate), *counts, *_means(healthy))


def _means(ends: Sequence[End]) -> tuple[Cell, ...]:
    """Of dev loss, test loss and test accuracy, over runs that did not diverge."""
    shown: dict[str, Callable[[float], Cell]] = {
        "dev_loss": loss,
        "test_loss": loss,
        "test_accuracy": percent,
    }
    if not ends:
        return (Cell(numbers.NONE),) * len(shown)
    return tuple(cell(fmean(getattr(end, name) for end in ends)) for name, cell in shown.items())


def ends_of(study: Study, arm: str, rate: float) -> list[End]:
    """All runs of an arm with a rate."""
    ends = (end for target in study.targets for end in target.ends)
    return [end for end in ends if (end.arm, end.rate) == (arm, rate)]
