"""The tables of a report as values; Markdown, CSV, LaTeX and page only differ in their form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any

from mashup._report import numbers
from mashup._report.plots import Grid
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
    Source,
    Study,
    Target,
)
from mashup._report.verdict import contrast_verdict, ladder_sentences, target_verdict
from mashup.results.statistics import Difference

_SHOWN = 10  # rows of a ranking that are seen at once
_FEWEST = 3  # sources from which a rank correlation is meaningful
_RULES = {"fair": "fair rule", "paper": "paper's rule (flattering)"}
_CRITERIA = {
    "knowledge": ("Missing knowledge − base", "bits"),
    "loss": ("Loss − base", "nats per answer token"),
    "accuracy": ("Error rate − base", "shares of wrong answers"),
}


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


_NOTHING = Cell(numbers.NONE)


def _percent(share: float) -> Cell:
    return Cell(numbers.percent(share), value=share)


def _loss(value: float) -> Cell:
    return Cell(numbers.loss(value), value=value)


def _whole(value: float) -> Cell:
    return Cell(numbers.count(value), value=value)


def _seconds(value: float) -> Cell:
    return Cell(numbers.seconds(value), value=value)


def _bits(value: float | None, error: float | None = None) -> Cell:
    if value is None:
        return _NOTHING
    plus = f" ± {error:.2f}" if error is not None else ""
    return Cell(f"{numbers.signed(value, 2)}{plus}", value=value)


def _p_value(p: float | None) -> Cell:
    return _NOTHING if p is None else Cell(f"{p:.3f}", value=p)


def _gain(difference: Difference | None) -> Cell:
    """Points of accuracy, the interval below."""
    if difference is None:
        return _NOTHING
    tone = difference.verdict(higher_is_better=True)
    text, detail = numbers.points(difference.value), numbers.interval(difference)
    return Cell(text, detail, "" if tone == "within noise" else tone, difference.value)


def _loss_gain(difference: Difference | None) -> Cell:
    """Nats, the interval below; less is better."""
    if difference is None:
        return _NOTHING
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
        reach = [_whole(fmean(row.steps for row in rows))]
    return (
        Cell(name, start if only else ""),
        *((_whole(len(rows)), _whole(seeds)) if only is None else ()),
        _percent(fmean(row.accuracy for row in rows)),
        _gain(over.gain if over else None),
        _gain(mashup.gain if mashup else None),
        _loss(fmean(row.loss for row in rows)),
        *reach,
        _seconds(fmean(row.overhead for row in rows)),
        _seconds(fmean(row.costs["train"] for row in rows)),
        _seconds(fmean(row.seconds for row in rows)),
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
        return (*names, _gain(one.gain), _loss_gain(one.loss))
    return (
        *names,
        _whole(len(one.gains)),
        _gain(one.gain),
        _whole(one.count("better")),
        _whole(one.count("worse")),
        _p_value(one.p),
        _p_value(one.holm),
        _loss_gain(one.loss),
        _p_value(one.p_loss),
        _p_value(one.holm_loss),
    )


def results_table(study: Study) -> Table:
    """Every arm on every target, and below them what the commonest answer gets right."""
    columns = (
        *("Target", "Arm", "Verdict on accuracy", "Test accuracy", "Over scratch, points"),
        *("mashup over it, points", "Test loss", "Over scratch, nats", "Learning rates"),
    )
    rows: list[tuple[Cell, ...]] = []
    for target in study.targets:
        rows += [_result(target, arm) for arm in target.arms]
        if target.commonest is not None:
            names = Cell(target.task), Cell("(commonest answer)"), Cell("")
            rows.append((*names, _percent(target.commonest), *((_NOTHING,) * 4), Cell("")))
    return Table("results", "Results by target and arm", columns, tuple(rows), words=3)


def _result(target: Target, arm: ArmRow) -> tuple[Cell, ...]:
    rates = [run.values.get("learning_rate") for run in arm.runs] if arm.trained else []
    return (
        Cell(target.task),
        Cell(arm.name),
        Cell(target_verdict(target, arm.name)),
        _percent(arm.accuracy),
        _gain(arm.accuracy_gain),
        _gain(target.over.get(arm.name)),
        _loss(arm.loss),
        _loss_gain(arm.loss_gain),
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
            _whole(fmean(point.step for point in at)),
            _seconds(seconds),
            _mean(at, "dev_loss", _loss),
            _mean(at, "dev_accuracy", _percent),
            _mean(at, "test_loss", _loss),
            _mean(at, "test_accuracy", _percent),
        )


def _mean(things: Iterable[Any], name: str, cell: Callable[[float], Cell]) -> Cell:
    """Of an attribute; nothing where one of the things does not have it."""
    values = [getattr(one, name) for one in things]
    return cell(fmean(values)) if values and None not in values else _NOTHING


def costs_table(study: Study) -> Table:
    """Seconds by what they were spent on, means over targets and seeds."""
    columns = ("Arm", "Scoring", "Merging", "Learning-rate search", "Training", "Total")
    rows = tuple(
        (
            Cell(arm),
            *(_seconds(fmean(row.costs[cost] for row in study.rows(arm))) for cost in COSTS),
            _seconds(fmean(row.seconds for row in study.rows(arm))),
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
        return _percent(median(shares)) if shares else _NOTHING

    counts = (len(known), len(reached), len(known) - len(reached))
    return Cell(arm), Cell(_RULES[rule]), *map(_whole, counts), share("steps"), share("seconds")


def ladder_table(study: Study) -> Table | None:
    """Arm by budget: means over targets, and how many are as good as scratch's full run."""
    keys = dict.fromkeys((rung.arm, rung.budget) for t in study.targets for rung in t.ladder)
    if not keys:
        return None
    columns = (
        *("Arm", "Budget", "Steps", "Dev loss", "Test accuracy", "Total seconds"),
        "Targets at or below scratch's full dev loss",
    )
    said = [numbers.capital(text) for text in ladder_sentences(study.only)] if study.only else []
    note = "Every run has its own schedule, which decays fully. Means over targets and seeds."
    rows = tuple(_rung(arm, budget, study.targets) for arm, budget in keys)
    return Table("ladder", "Budget ladder", columns, rows, note=" ".join([*said, note]))


def _rung(arm: str, budget: float, targets: Sequence[Target]) -> tuple[Cell, ...]:
    found = [(rung, target) for target in targets if (rung := rung_of(target, arm, budget))]
    rungs = [rung for rung, _ in found]
    levels = [(rung, rung_of(target, SCRATCH, 1.0)) for rung, target in found]
    reached = sum(full is not None and rung.dev_loss <= full.dev_loss for rung, full in levels)
    return (
        Cell(arm),
        Cell(f"{100 * budget:.0f} %", value=budget),
        _mean(rungs, "steps", _whole),
        _mean(rungs, "dev_loss", _loss),
        _mean(rungs, "accuracy", _percent),
        _mean(rungs, "seconds", _seconds),
        Cell(f"{reached} of {len(rungs)}", value=reached),
    )


def rung_of(target: Target, arm: str, budget: float) -> Rung | None:
    """One rung of a target's ladder."""
    found = (rung for rung in target.ladder if (rung.arm, rung.budget) == (arm, budget))
    return next(found, None)


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
        *map(_whole, counts),
        _mean(healthy, "dev_loss", _loss),
        _mean(healthy, "test_loss", _loss),
        _mean(healthy, "test_accuracy", _percent),
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
    return Cell(name), _whole(len(several[0])), Cell(text, value=accuracy), _loss(spread)


# Source checkpoints


def ranking_table(target: Target) -> Table | None:
    """The source checkpoints on the sample of one target, and the base."""
    rows = (*target.sources, target.base) if target.base else target.sources
    if not rows:
        return None
    has_form = any(one.form is not None for one in rows)
    word, unit = _CRITERIA[target.criterion]
    columns = (
        *("Checkpoint", "Loss"),
        *(("Form, bits", "Knowledge, bits") if has_form else ()),
        *("Accuracy", word, "Chosen"),
    )
    note = f"Differences in {unit}, ± one paired standard error; less is better."
    return Table(
        "ranking", "Source checkpoints on the sample", columns,
        tuple(_ranked(one, target.base, has_form) for one in rows), note=note, shown=_SHOWN,
    )  # fmt: skip


def _ranked(one: Source, base: Source | None, has_form: bool) -> tuple[Cell, ...]:
    known = one.knowledge
    return (
        Cell(one.name, tone="chosen" if one.chosen else ""),
        _loss(one.loss),
        *((_bits(one.form), _bits(known, one.knowledge_error)) if has_form else ()),
        _percent(one.accuracy) if one.accuracy is not None else _NOTHING,
        _NOTHING if one is base else Cell(numbers.difference(one), value=one.difference),
        Cell("yes" if one.chosen else ""),
    )


def relevance_grid(study: Study) -> Grid | None:
    """Loss of the base minus that of the source on the target's sample, nats; more is better."""
    return _grid(study, lambda one: -one.difference)


def knowledge_grid(study: Study) -> Grid | None:
    """Knowledge of each source on the target's sample, bits; None where it was not recorded."""
    return _grid(study, lambda one: one.knowledge)


def singles_grid(study: Study) -> Grid | None:
    """Test accuracy over scratch after training from each source alone; None if not run."""
    return _grid(study, lambda one: one.single.value if one.single else None)


def _grid(study: Study, value: Callable[[Source], float | None]) -> Grid | None:
    values, chosen = {}, set()
    for target in study.targets:
        for one in target.sources:
            if (found := value(one)) is not None:
                values[one.name, target.task] = found
            if one.chosen:
                chosen.add((one.name, target.task))
    if not values:
        return None
    targets = tuple(target.task for target in study.targets)
    known = {name for name, _ in values}
    names = (*(one for one in targets if one in known), *sorted(known.difference(targets)))
    return Grid(names, targets, values, frozenset(chosen))


def relevance_table(study: Study) -> Table | None:
    """The losses before training."""
    note = (
        "Loss of the base minus loss of the source on the target's sample, nats per answer token: "
        "more is better. Chosen sources are bold here and framed in the picture. A strategy may "
        "drop a source after a few examples."
    )
    title = "Relevance of source checkpoints before training"
    grid = relevance_grid(study)
    return _matrix("relevance", title, grid, lambda v: numbers.signed(v, 2), note)


def knowledge_table(study: Study) -> Table | None:
    """The knowledge before training."""
    note = "Bits above the label prior on the target's sample: more is better. Chosen are bold."
    title = "Knowledge of source checkpoints before training"
    grid = knowledge_grid(study)
    return _matrix("knowledge", title, grid, lambda v: numbers.signed(v, 2), note)


def singles_table(study: Study) -> Table | None:
    """The gains after training from each source, and whether relevance predicted them."""
    known = [found for target in study.targets if (found := agreement(target)) is not None]
    note = "Points of test accuracy over scratch, from each source alone."
    if known:
        note += (
            f" Rank correlation with relevance (Spearman, over sources): {fmean(known):+.2f} on "
            f"average of {numbers.plural(len(known), 'target')}, {min(known):+.2f} to "
            f"{max(known):+.2f}."
        )
    title = "Gains after training from each source"
    return _matrix("gains", title, singles_grid(study), numbers.points, note)


def _matrix(
    key: str, title: str, grid: Grid | None, show: Callable[[float], str], note: str
) -> Table | None:
    if grid is None:
        return None

    def entry(name: str, target: str) -> Cell:
        value = grid.values.get((name, target))
        tone = "chosen" if (name, target) in grid.framed else ""
        return _NOTHING if value is None else Cell(show(value), tone=tone, value=value)

    rows = tuple((Cell(name), *(entry(name, t) for t in grid.columns)) for name in grid.rows)
    return Table(key, title, ("Source", *grid.columns), rows, note=note)


def agreement(target: Target) -> float | None:
    """Spearman's rank correlation of relevance with the gain after training, over sources."""
    pairs = [(-one.difference, one.single.value) for one in target.sources if one.single]
    if len(pairs) < _FEWEST or any(len(set(column)) < 2 for column in zip(*pairs, strict=True)):
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def chosen_table(study: Study) -> Table | None:
    """How often each source was chosen, and for what."""
    tasks: dict[str, list[str]] = {}
    for target in study.targets:
        for one in target.sources:
            tasks.setdefault(one.name, []).extend([target.task] if one.chosen else [])
    if not tasks:
        return None
    order = sorted(tasks.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    rows = tuple((Cell(d), Cell(numbers.listed(found)), _whole(len(found))) for d, found in order)
    columns = ("Source", "Chosen for", "Times")
    return Table("chosen", "Which source checkpoints were chosen", columns, rows, words=2)


def left_out_table(study: Study) -> Table | None:
    """Sources that were not used, since they know the target's rows or are of its own task."""
    rows = tuple(
        (Cell(name), Cell(target.task), Cell(why), _percent(share))
        for target in study.targets
        for why, shares in (("its own task", target.own_task), ("held-out rows", target.left_out))
        for name, share in shares.items()
    )
    if not rows:
        return None
    note = (
        "Held-out rows: trained on dev and test prompts of the target, so its gain would be "
        "memory. Its own task: trained on the target's training prompts, or named after it. Only "
        "sources of this experiment and runs of `mashup train` can be checked."
    )
    columns = ("Source", "Skipped for", "Why", "Share of these prompts")
    return Table("left-out", "Skipped source checkpoints", columns, rows, words=3, note=note)


def problems_table(study: Study) -> Table | None:
    """Checkpoints that were not scored, and why."""
    names = ("where", "what", "found", "fix")
    problems = study.about.get("left_out", ())
    if not problems:
        return None
    rows = tuple(tuple(Cell(p.get(name, "")) for name in names) for p in problems)
    columns = ("Checkpoint", "Why", "Found", "What to do")
    return Table("skipped", "Skipped checkpoints", columns, rows, words=4)


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
        _whole(len(study.targets)),
        _whole(len(study.seeds)),
        _mean(study.rows(SCRATCH), "accuracy", _percent),
        _mean(study.rows(MASHUP), "accuracy", _percent),
        _gain(subject.gain if subject else None),
        _p_value(subject.p if subject else None),
        _loss_gain(subject.loss if subject else None),
        Cell(f"{reached} of {len(known)} runs", value=reached) if known else _NOTHING,
    )
