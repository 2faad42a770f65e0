"""The tables of an experiment as values: what was reached, at what cost, how surely."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import fmean, stdev

from mashup._report import numbers
from mashup._report.experiment.cells import (
    Titled,
    gain,
    loss,
    loss_gain,
    p_value,
    percent,
    seconds,
    whole,
)
from mashup._report.experiment.summary import Contrast, Study, Target
from mashup._report.experiment.verdicts import contrast_verdict, target_verdict
from mashup._report.summary import COSTS, ArmRow
from mashup._report.tables import Cell, Table


def arms_table(study: Study) -> Titled:
    """Means over targets and seeds: what every arm reaches and what it costs."""
    columns = (
        *("Arm", "Targets", "Seeds", "Test accuracy", "Over scratch, points", "Test loss", "Steps"),
        "Total seconds",
    )
    rows = tuple(_arm(arm, study) for arm in study.arms)
    note = (
        "Means over targets. Arms that have fewer targets or seeds are comparable by what they "
        "are over scratch alone: that is with the targets and seeds that both have."
    )
    return Titled("arms", "Arms", Table(columns, rows), note)


def _arm(name: str, study: Study) -> tuple[Cell, ...]:
    rows, over = study.rows(name), study.contrast(name)
    return (
        Cell(name),
        whole(len(rows)),
        whole(max(len(row.seeds) for row in rows)),
        percent(fmean(row.accuracy for row in rows)),
        gain(over.gain if over else None),
        loss(fmean(row.loss for row in rows)),
        whole(fmean(row.steps for row in rows)),
        seconds(fmean(row.seconds for row in rows)),
    )


def contrasts_table(study: Study) -> Titled:
    """Every arm against scratch, mashup against every control, over all targets."""
    columns = (
        *("Comparison", "Verdict on accuracy", "Targets", "Gain, points", "Better", "Worse", "p"),
        *("p, Holm", "Loss, nats", "p of loss", "p of loss, Holm"),
    )
    rows = tuple(_contrast(one) for one in study.contrasts)
    note = (
        "Gains are means over targets with 95 % intervals (test examples and seeds). Better and "
        "worse count targets. p: Wilcoxon's signed-rank test over targets, and Holm's correction "
        f"for all comparisons of this table. Less loss is better. {_on_one_seed(study)}"
    ).strip()
    return Titled("comparisons", "Comparisons", Table(columns, rows, words=2), note)


def _on_one_seed(study: Study) -> str:
    """What the intervals of a single seed hold."""
    lone = [f"{one.arm} − {one.other}" for one in study.contrasts if one.is_lone]
    if lone:
        return (
            f"On one seed, with the spread over seeds of the arms that have several in the "
            f"interval: {numbers.listed(lone)}."
        )
    if len(study.seeds) == 1:
        return "One seed: the intervals know nothing of others, which may differ by more."
    return ""


def _contrast(one: Contrast) -> tuple[Cell, ...]:
    return (
        Cell(f"{one.arm} − {one.other}"),
        Cell(contrast_verdict(one)),
        whole(len(one.gains)),
        gain(one.gain),
        whole(one.count("better")),
        whole(one.count("worse")),
        p_value(one.p),
        p_value(one.holm),
        loss_gain(one.loss),
        p_value(one.p_loss),
        p_value(one.holm_loss),
    )


def results_table(study: Study) -> Titled:
    """Every arm on every target."""
    columns = (
        *("Target", "Arm", "Verdict on accuracy", "Test accuracy", "Over scratch, points"),
        *("mashup over it, points", "Test loss", "Over scratch, nats", "Learning rates"),
    )
    rows = [row for target in study.targets for row in _results(target)]
    return Titled("results", "Results by target and arm", Table(columns, tuple(rows), words=3))


def _results(target: Target) -> Iterator[tuple[Cell, ...]]:
    """Every arm, and below them what never looking at the prompt gets right."""
    yield from (_result(target, arm) for arm in target.arms)
    if target.commonest is not None:
        empty = (Cell(numbers.NONE),)
        names = Cell(target.task), Cell("(commonest answer)"), Cell("")
        yield (*names, percent(target.commonest), *(empty * 4), Cell(""))


def _result(target: Target, arm: ArmRow) -> tuple[Cell, ...]:
    return (
        Cell(target.task),
        Cell(arm.name),
        Cell(target_verdict(target, arm.name)),
        percent(arm.accuracy),
        gain(arm.accuracy_gain),
        gain(target.over.get(arm.name)),
        loss(arm.loss),
        loss_gain(arm.loss_gain),
        Cell(_rates(arm)),
    )


def _rates(arm: ArmRow) -> str:
    rates = [run.values.get("learning_rate") for run in arm.runs] if arm.trained else []
    return ", ".join(f"{rate:g}" for rate in dict.fromkeys(rates) if rate)


def costs_table(study: Study) -> Titled:
    """Seconds by what they went to, means over targets and seeds."""
    columns = ("Arm", "Scoring", "Merging", "Learning-rate search", "Training", "Total")
    rows = tuple(
        (
            Cell(arm),
            *(seconds(fmean(row.costs[cost] for row in study.rows(arm))) for cost in COSTS),
            seconds(fmean(row.seconds for row in study.rows(arm))),
        )
        for arm in study.arms
    )
    note = "Wall-clock, one thing after the other; scoring as if nothing had been cached."
    return Titled("costs", "Costs in seconds", Table(columns, rows), note)


def seeds_table(study: Study) -> Titled | None:
    """How far seeds are apart, on average over targets."""
    rows = tuple(row for arm in study.arms if (row := _seeds(arm, study.rows(arm))))
    if not rows:
        return None
    columns = ("Arm", "Seeds", "Spread of accuracy, points", "Spread of loss, nats")
    note = "Standard deviation over seeds, the mean over targets. Draws of one arm count as seeds."
    return Titled("seeds", "Several seeds", Table(columns, rows), note)


def _seeds(name: str, rows: Iterable[ArmRow]) -> tuple[Cell, ...] | None:
    several = [row.runs for row in rows if len(row.runs) > 1]
    if not several:
        return None
    accuracy = fmean(stdev(run.accuracy for run in runs) for runs in several)
    spread = fmean(stdev(run.loss for run in runs) for runs in several)
    text = f"{100 * accuracy:.1f}"
    return Cell(name), whole(len(several[0])), Cell(text, value=accuracy), loss(spread)
