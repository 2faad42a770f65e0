"""The tables of a report as values; Markdown, CSV, LaTeX and page only differ in their form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any

from mashup._report import numbers
from mashup._report.study import (
    COSTS,
    MASHUP,
    SCRATCH,
    ArmRow,
    Contrast,
    End,
    Reach,
    Rung,
    RunRow,
    Study,
    Target,
)
from mashup._report.verdict import contrast_verdict, ladder_sentences, target_verdict
from mashup.results.significance import mean_difference
from mashup.results.statistics import Difference

_RULES = {"fair": "fair rule", "paper": "paper's rule (flattering)"}


@dataclass(frozen=True)
class Cell:
    """One entry of a table.

    Attributes:
        text: what is shown; ``detail`` stands below it in small letters.
        tone: ``better``, ``worse``, ``chosen`` or none.
        value: the number behind the text, for sorting and for CSV; None for words.
    """

    text: str
    detail: str = ""
    tone: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """A table with its heading.

    Attributes:
        key: name of its files.
        rows: cells; the first ``words`` columns are text and the others numbers.
        note: below the table.
        second: heading for the details of the first column where they have a column of their own.
        shown: rows that are seen at once; the others are folded. None for all.
        in_markdown: whether it is short enough for Markdown.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: int = 1
    note: str = ""
    second: str = ""
    shown: int | None = None
    in_markdown: bool = True


NOTHING = Cell(numbers.NONE)


def percent_cell(share: float) -> Cell:
    return Cell(numbers.percent(share), value=share)


def loss_cell(value: float) -> Cell:
    return Cell(numbers.loss(value), value=value)


def whole_cell(value: float) -> Cell:
    return Cell(numbers.count(value), value=value)


def seconds_cell(value: float) -> Cell:
    return Cell(numbers.seconds(value), value=value)


def p_cell(p: float | None) -> Cell:
    return NOTHING if p is None else Cell(f"{p:.3f}", value=p)


def gain_cell(difference: Difference | None) -> Cell:
    """Points of accuracy, the interval below."""
    if difference is None:
        return NOTHING
    tone = difference.verdict(higher_is_better=True)
    text, detail = numbers.points(difference.value), numbers.interval(difference)
    return Cell(text, detail, "" if tone == "within noise" else tone, difference.value)


def loss_gain_cell(difference: Difference | None) -> Cell:
    """Nats, the interval below; less is better."""
    if difference is None:
        return NOTHING
    tone = difference.verdict(higher_is_better=False)
    text, detail = numbers.signed(difference.value), numbers.loss_interval(difference)
    return Cell(text, detail, "" if tone == "within noise" else tone, difference.value)


# What was reached, and at what cost


def arms_table(study: Study) -> Table:
    """One row an arm: how good, how much better than scratch, what it costs."""
    only = study.only
    columns = (
        "Arm",
        *(("Targets", "Seeds") if only is None else ()),
        *("Test accuracy", "Over scratch, points", "mashup over it, points", "Test loss"),
        *(("Steps",) if only is None else ("Steps to parity", "Seconds to parity")),
        *("Overhead, seconds", "Training, seconds", "Total seconds"),
    )
    if only is None:
        note = (
            "Means over targets and seeds. Compare arms that have fewer targets or seeds only by "
            "their difference to scratch, which is taken on the targets and seeds that both have. "
        )
    else:
        note = (
            "Parity: the arm's / scratch's, at the first evaluation that reaches scratch's final "
            "dev loss, with all overhead charged. "
        )
    note += "In brackets: 95 % intervals. Overhead: scoring, merging and learning-rate search."
    rows = tuple(_arm(arm, study) for arm in study.arms)
    second = "Starts from" if only and any(arm.start for arm in only.arms) else ""
    return Table("arms", "Arms", columns, rows, note=note, second=second)


def _arm(name: str, study: Study) -> tuple[Cell, ...]:
    rows, only = study.rows(name), study.only
    over = study.contrast(name)
    mashup = study.contrast(MASHUP, name) if name != SCRATCH else None
    first, seeds = rows[0], max(len(row.seeds) for row in rows)
    start = first.start + (f" ({first.note})" if first.note else "")
    reach = [_reach(first.fair, "steps"), _reach(first.fair, "seconds")]
    if only is None:
        reach = [whole_cell(fmean(row.steps for row in rows))]
    return (
        Cell(name, start if only else ""),
        *((whole_cell(len(rows)), whole_cell(seeds)) if only is None else ()),
        percent_cell(fmean(row.accuracy for row in rows)),
        gain_cell(over.gain if over else None),
        gain_cell(mashup.gain if mashup else None),
        loss_cell(fmean(row.loss for row in rows)),
        *reach,
        seconds_cell(fmean(row.overhead for row in rows)),
        seconds_cell(fmean(row.costs["train"] for row in rows)),
        seconds_cell(fmean(row.seconds for row in rows)),
    )


def _reach(reach: Reach | None, unit: str) -> Cell:
    value = getattr(reach, unit) if reach else None
    return Cell(numbers.reached(reach, unit), numbers.saving(reach, unit), value=value)


def contrasts_table(study: Study) -> Table:
    """Every arm against scratch, mashup against every control, over all targets."""
    several = study.only is None
    columns = (
        *("Comparison", "Verdict on accuracy"),
        *(("Targets",) if several else ()),
        "Gain, points",
        *(("Better", "Worse", "p", "p, Holm") if several else ()),
        "Loss, nats",
        *(("p of loss", "p of loss, Holm") if several else ()),
    )
    lone = [f"{one.arm} − {one.other}" for one in study.contrasts if one.is_lone]
    note = "Gains have 95 % intervals (test examples and seeds). Less loss is better."
    if several:
        note = (
            "Gains are means over targets with 95 % intervals (test examples and seeds). Better "
            "and worse count targets. p: Wilcoxon's signed-rank test over targets, and after "
            "Holm's correction for all comparisons of this table. Less loss is better."
        )
    if lone:
        note += (
            " On one seed, so that the interval includes the spread over seeds of the arms that "
            f"have several: {numbers.listed(lone)}."
        )
    elif len(study.seeds) == 1:
        note += " One seed: the intervals say nothing of other seeds, which may differ by more."
    rows = tuple(_contrast(one, several) for one in study.contrasts)
    return Table("comparisons", "Comparisons", columns, rows, words=2, note=note)


def _contrast(one: Contrast, several: bool) -> tuple[Cell, ...]:
    names = (Cell(f"{one.arm} − {one.other}"), Cell(contrast_verdict(one)))
    if not several:
        return (*names, gain_cell(one.gain), loss_gain_cell(one.loss))
    return (
        *names,
        whole_cell(len(one.gains)),
        gain_cell(one.gain),
        whole_cell(one.count("better")),
        whole_cell(one.count("worse")),
        p_cell(one.p),
        p_cell(one.holm),
        loss_gain_cell(one.loss),
        p_cell(one.p_loss),
        p_cell(one.holm_loss),
    )


def results_table(study: Study) -> Table:
    """Every arm on every target, and below them what the commonest answer gets right."""
    columns = (
        *("Target", "Arm", "Verdict on accuracy", "Test accuracy", "Over scratch, points"),
        *("mashup over it, points", "Test loss", "Over scratch, nats", "Learning rates"),
    )
    rows: list[tuple[Cell, ...]] = []
    for target in (*study.targets, *study.sized):
        rows += [_result(target, arm) for arm in target.arms]
        if target.commonest is not None:
            names = Cell(target.task), Cell("(commonest answer)"), Cell("")
            rows.append((*names, percent_cell(target.commonest), *((NOTHING,) * 4), Cell("")))
    return Table("results", "Results by target and arm", columns, tuple(rows), words=3)


def _result(target: Target, arm: ArmRow) -> tuple[Cell, ...]:
    rates = [run.values.get("learning_rate") for run in arm.runs] if arm.trained else []
    return (
        Cell(target.task),
        Cell(arm.name),
        Cell(target_verdict(target, arm.name)),
        percent_cell(arm.accuracy),
        gain_cell(arm.accuracy_gain),
        gain_cell(target.over.get(arm.name)),
        loss_cell(arm.loss),
        loss_gain_cell(arm.loss_gain),
        Cell(", ".join(f"{rate:g}" for rate in dict.fromkeys(rates) if rate)),
    )


def curves_table(study: Study) -> Table:
    """Every evaluation of every arm: means over its runs."""
    columns = (
        *("Target", "Arm", "Step", "Seconds, overhead charged", "Dev loss", "Dev accuracy"),
        *("Test loss", "Test accuracy"),
    )
    rows = [
        (Cell(target.task), Cell(arm.name), *cells)
        for target in study.targets
        for arm in target.arms
        for cells in _points(arm.runs)
    ]
    note = "Means over seeds and draws. Seconds are of training, with the overhead before step 0."
    return Table(
        "curves", "Curves", columns, tuple(rows), words=2, note=note, shown=0, in_markdown=False
    )


def _points(runs: Sequence[RunRow]) -> Iterator[tuple[Cell, ...]]:
    for at in zip(*(run.points for run in runs), strict=False):
        seconds = fmean(run.overhead + p.seconds for run, p in zip(runs, at, strict=True))
        yield (
            whole_cell(fmean(point.step for point in at)),
            seconds_cell(seconds),
            _mean(at, "dev_loss", loss_cell),
            _mean(at, "dev_accuracy", percent_cell),
            _mean(at, "test_loss", loss_cell),
            _mean(at, "test_accuracy", percent_cell),
        )


def _mean(things: Iterable[Any], name: str, cell: Callable[[float], Cell]) -> Cell:
    """Of an attribute; nothing where one of the things does not have it."""
    values = [getattr(one, name) for one in things]
    return cell(fmean(values)) if values and None not in values else NOTHING


def costs_table(study: Study) -> Table:
    """Seconds by what they were spent on, means over targets and seeds."""
    columns = ("Arm", "Scoring", "Merging", "Learning-rate search", "Training", "Total")
    rows = tuple(
        (
            Cell(arm),
            *(seconds_cell(fmean(row.costs[cost] for row in study.rows(arm))) for cost in COSTS),
            seconds_cell(fmean(row.seconds for row in study.rows(arm))),
        )
        for arm in study.arms
    )
    note = "Wall-clock seconds, one step after the other; scoring as if nothing were cached."
    return Table("costs", "Costs in seconds", columns, rows, note=note)


def parity_table(study: Study) -> Table:
    """When runs reach scratch's quality, by the fair rule and by the paper's."""
    title = "Steps and seconds to parity"
    arms = [arm for arm in study.arms if _with_parity(study, arm)]
    if study.only is None:
        columns: tuple[str, ...] = (
            *("Arm", "Rule", "Runs", "Reached", "Never", "Share of the steps"),
            "Share of the seconds",
        )
        note = (
            "A run is one target and seed. Shares are medians over the runs that reach parity, of "
            "what scratch needs by the same rule; all costs of an arm are charged. Runs that never "
            "reach it are in no share, so read both columns. By the paper's rule scratch is "
            "charged its whole run, so even scratch itself saves."
        )
        rows = [
            _shares(arm, rule, _with_parity(study, arm)) for arm in arms for rule in _RULES
        ]  # fmt: skip
    else:
        columns = ("Arm", "Rule", "Steps", "Seconds")
        note = (
            "The arm's / scratch's, means over seeds. By the paper's rule scratch is charged its "
            "whole run, so it shows savings where there is only noise."
        )
        rows = [
            (Cell(arm), Cell(_RULES[rule]), _reach(reach, "steps"), _reach(reach, "seconds"))
            for arm in arms
            for rule, reach in _reaches(study.rows(arm)[0])
        ]
    return Table("parity", title, columns, tuple(rows), words=2, note=note)


def _reaches(arm: ArmRow) -> list[tuple[str, Reach | None]]:
    return [("fair", arm.fair), ("paper", arm.paper)]


def _with_parity(study: Study, arm: str) -> list[RunRow]:
    runs = [run for row in study.rows(arm) for run in row.runs if run.trained]
    return [run for run in runs if "fair_parity_steps" in run.values]


def _shares(arm: str, rule: str, runs: Sequence[RunRow]) -> tuple[Cell, ...]:
    known = [run for run in runs if f"{rule}_parity_steps" in run.values]
    reached = [run for run in known if run.values[f"{rule}_parity_steps"] is not None]

    def share(unit: str) -> Cell:
        pairs = [
            (run.values[f"{rule}_parity_{unit}"] or 0, run.values[f"{rule}_parity_scratch_{unit}"])
            for run in reached
        ]
        shares = [mine / theirs for mine, theirs in pairs if theirs]
        return percent_cell(median(shares)) if shares else NOTHING

    counts = (len(known), len(reached), len(known) - len(reached))
    return Cell(arm), Cell(_RULES[rule]), *map(whole_cell, counts), share("steps"), share("seconds")


def ladder_table(study: Study) -> Table | None:
    """Arm by budget: means over targets, and how many are as good as scratch's full run."""
    targets = (*study.targets, *study.brief)
    keys = dict.fromkeys((rung.arm, rung.budget) for target in targets for rung in target.ladder)
    if not keys:
        return None
    has_gains = any(
        rung.full_gain and rung.budget != 1.0 for target in targets for rung in target.ladder
    )
    columns = (
        *("Arm", "Budget", "Steps", "Dev loss", "Test accuracy"),
        *(("Over scratch at this budget, points", "Over scratch's full run, points") * has_gains),
        *("Total seconds", "Targets at or below scratch's full dev loss"),
    )
    said = [numbers.capital(text) for text in ladder_sentences(study.only)] if study.only else []
    note = "Every run has its own schedule, which decays fully. Means over targets and seeds."
    if has_gains:
        note += (
            " In brackets: 95 % intervals. A gain over scratch's full run that is not below zero "
            "says that this budget is enough."
        )
    rows = tuple(_rung(arm, budget, targets, has_gains) for arm, budget in keys)
    return Table("ladder", "Budget ladder", columns, rows, note=" ".join([*said, note]))


def _rung(arm: str, budget: float, targets: Sequence[Target], has_gains: bool) -> tuple[Cell, ...]:
    found = [(rung, target) for target in targets if (rung := target.rung(arm, budget))]
    rungs = [rung for rung, _ in found]
    levels = [(rung, target.rung(SCRATCH, 1.0)) for rung, target in found]
    reached = sum(full is not None and rung.dev_loss <= full.dev_loss for rung, full in levels)
    return (
        Cell(arm),
        Cell(f"{100 * budget:.0f} %", value=budget),
        _mean(rungs, "steps", whole_cell),
        _mean(rungs, "dev_loss", loss_cell),
        _mean(rungs, "accuracy", percent_cell),
        *((_mean_gain(rungs, "gain"), _mean_gain(rungs, "full_gain")) if has_gains else ()),
        _mean(rungs, "seconds", seconds_cell),
        Cell(f"{reached} of {len(rungs)}", value=reached),
    )


def _mean_gain(rungs: Sequence[Rung], name: str) -> Cell:
    """Over the targets; nothing where one of them was not compared."""
    gains = [getattr(rung, name) for rung in rungs]
    return gain_cell(mean_difference(gains) if gains and None not in gains else None)


def rates_table(study: Study) -> Table | None:
    """Learning-rate search: where the runs of each arm and rate end, means over targets."""
    keys = dict.fromkeys((end.arm, end.rate) for target in study.targets for end in target.ends)
    if len({rate for _, rate in keys}) < 2:
        return None
    columns = (
        *("Arm", "Learning rate", "Runs", "Diverged", "Taken", "Dev loss", "Test loss"),
        "Test accuracy",
    )
    note = (
        "Taken: for how many targets and seeds this rate had the least dev loss. Means are over "
        "the runs of a row: rows with other numbers of runs are of other targets."
    )
    order = {arm: place for place, arm in enumerate(study.arms)}
    ordered = sorted(keys, key=lambda key: (order.get(key[0], len(order)), key[1]))
    rows = tuple(_rate(arm, rate, study) for arm, rate in ordered)
    return Table("rates", "Learning rates", columns, rows, note=note)


def _rate(arm: str, rate: float, study: Study) -> tuple[Cell, ...]:
    ends = ends_of(study, arm, rate)
    healthy = [end for end in ends if end.dev_loss is not None]
    runs = [run for row in study.rows(arm) for run in row.runs]
    taken = sum(run.values.get("learning_rate") == rate for run in runs)
    counts = (len(ends), len(ends) - len(healthy), taken)
    return (
        Cell(arm),
        Cell(f"{rate:g}", value=rate),
        *map(whole_cell, counts),
        _mean(healthy, "dev_loss", loss_cell),
        _mean(healthy, "test_loss", loss_cell),
        _mean(healthy, "test_accuracy", percent_cell),
    )


def ends_of(study: Study, arm: str, rate: float) -> list[End]:
    """All runs of an arm with a rate."""
    ends = (end for target in study.targets for end in target.ends)
    return [end for end in ends if (end.arm, end.rate) == (arm, rate)]


def seeds_table(study: Study) -> Table | None:
    """How far seeds are apart, on average over targets."""
    rows = tuple(row for arm in study.arms if (row := _seeds(arm, study.rows(arm))))
    if not rows:
        return None
    columns = ("Arm", "Seeds", "Spread of accuracy, points", "Spread of loss, nats")
    note = "Standard deviation over seeds, the mean over targets. Draws of one arm count as seeds."
    return Table("seeds", "Several seeds", columns, rows, note=note)


def _seeds(name: str, rows: Iterable[ArmRow]) -> tuple[Cell, ...] | None:
    several = [row.runs for row in rows if len(row.runs) > 1]
    if not several:
        return None
    accuracy = fmean(stdev(run.accuracy for run in runs) for runs in several)
    spread = fmean(stdev(run.loss for run in runs) for runs in several)
    text = f"{100 * accuracy:.1f}"
    return Cell(name), whole_cell(len(several[0])), Cell(text, value=accuracy), loss_cell(spread)


# Experiments side by side


def models_table(studies: Sequence[Study]) -> Table:
    """One row an experiment: scratch, mashup, their difference."""
    columns = (
        *("Experiment", "Base", "Targets", "Seeds", "Scratch", "mashup", "Gain, points"),
        *("p", "Loss, nats", "Reached scratch's dev loss"),
    )
    note = "p: Wilcoxon's test over the targets of the experiment, not corrected across rows."
    rows = tuple(map(_model, studies))
    return Table("models", "Experiments side by side", columns, rows, words=2, note=note)


def _model(study: Study) -> tuple[Cell, ...]:
    subject = study.contrast(MASHUP)
    runs = [run for row in study.rows(MASHUP) for run in row.runs]
    known = [run.values["fair_parity_steps"] for run in runs if "fair_parity_steps" in run.values]
    reached = sum(steps is not None for steps in known)
    return (
        Cell(study.name),
        Cell(study.base.rstrip("/").rsplit("/", 1)[-1]),
        whole_cell(len(study.targets)),
        whole_cell(len(study.seeds)),
        _mean(study.rows(SCRATCH), "accuracy", percent_cell),
        _mean(study.rows(MASHUP), "accuracy", percent_cell),
        gain_cell(subject.gain if subject else None),
        p_cell(subject.p if subject else None),
        loss_gain_cell(subject.loss if subject else None),
        Cell(f"{reached} of {len(known)} runs", value=reached) if known else NOTHING,
    )
