"""From the records of an experiment or a comparison to the values that its report shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from math import inf
from statistics import fmean, variance
from typing import Any

from mashup._report.material import Folder, nothing_yet
from mashup._report.study import (
    COSTS,
    MASHUP,
    SCRATCH,
    ArmRow,
    Contrast,
    End,
    FamilyRow,
    LabelRow,
    Reach,
    Rung,
    RunRow,
    Source,
    Spread,
    Study,
    Target,
)
from mashup.results.curve import Point
from mashup.results.records import (
    ACCURACY,
    COMMONEST,
    LABELS,
    LEFT_OUT,
    NEEDED,
    OVER_FULL,
    OVER_TASKS,
    OWN_TASK,
    Record,
    data_of,
    pool_of,
)
from mashup.results.significance import holm, mean_difference, over_tasks, wilcoxon_p
from mashup.results.statistics import Difference

_BASE = "base"
_CURVE = ("dev_loss", "dev_accuracy", "test_loss", "test_accuracy")


def make_study(folder: Folder) -> Study:
    """Everything that is shown of one experiment or comparison."""
    folder = _as_whole(folder)
    by_task: dict[str, list[Record]] = {}
    for record in folder.records:
        by_task.setdefault(record.task, []).append(record)
    made = [
        _target(task, records, folder)
        for task, records in by_task.items()
        if data_of(task) != OVER_TASKS
    ]
    whole = [one for one in made if one.arm(SCRATCH)]
    if not whole:
        raise nothing_yet(folder.path, "no run of scratch")
    for one in made:
        trained = [] if one in whole else [arm.name for arm in one.arms if arm.trained]
        if trained:  # a loo writes an arm's records after those of scratch
            raise ValueError(f"{one.task}: whole runs of {trained[0]}, and none of scratch")
    targets = tuple(one for one in whole if _is_main(one.task, by_task))
    brief = tuple(  # a start that is not trained may be there before scratch is
        replace(one, arms=()) for one in made if one not in whole and _is_main(one.task, by_task)
    )
    base = folder.about.get("base", "")
    name = str(base.get("name", "") if isinstance(base, Mapping) else base)
    families = by_family((*targets, *brief))
    if share := folder.about.get("short"):  # there is no full run to be compared with
        families = tuple(replace(f, budget=share * f.budget, full_gain=None) for f in families)
    return Study(
        folder.records[0].experiment, name, targets, make_contrasts(targets), folder.about,
        folder.sources, tuple(one for one in whole if one not in targets), brief,
        by_labels(folder.records), families,
    )  # fmt: skip


def _as_whole(folder: Folder) -> Folder:
    """While most targets have short runs alone, the longest of these stand for whole ones.

    ``short`` in what is known of the experiment is then their share of the steps, and ``longer``
    the targets that have longer runs, which are not shown.
    """
    tasks = {one.task for one in folder.records}
    having: dict[float, set[str]] = {}
    for one in folder.records:
        if one.arm == SCRATCH and _is_main(one.task, tasks):
            having.setdefault(one.budget, set()).add(one.task)
    most = max(map(len, having.values()), default=0)
    longest = max((b for b, found in having.items() if 2 * len(found) >= most), default=1.0)
    if longest == 1.0:
        return folder
    longer = sorted(set().union(*(found for b, found in having.items() if b > longest)))
    records = tuple(  # what belongs to no trained run has the budget 1
        replace(one, budget=min(1.0, one.budget / longest))
        for one in _without_longer(folder.records, longer, longest)
    )
    about = folder.about | {"short": longest, "longer": longer}
    return replace(folder, records=records, about=about)


def _without_longer(records: Sequence[Record], tasks: Sequence[str], budget: float) -> list[Record]:
    """Records without the runs of some tasks above a budget, and without what compares these.

    A start that is not trained has the budget 1, and so has what belongs to no run: both stay.
    """
    of_runs = [one for one in records if one.seed >= 0 and one.donor is None]
    having = {(one.task, one.arm) for one in of_runs}
    trained = {(one.task, one.arm) for one in of_runs if one.step > 0}
    return [
        one
        for one in records
        if one.budget <= budget
        or one.task not in tasks
        or (one.task, one.arm) not in having
        or ((one.task, one.arm) not in trained and one.seed >= 0)
    ]


def _is_main(task: str, tasks: Iterable[str]) -> bool:
    """Whether a target is no other size of a task that is there."""
    return data_of(task) == task or data_of(task) not in tasks


def _target(task: str, records: Sequence[Record], folder: Folder) -> Target:
    of_runs = [one for one in records if one.learning_rate is None and one.donor is None]
    runs = [replace(run, arm=pool_of(run.arm)) for run in measured(of_runs)]
    full = [run for run in runs if run.budget == 1.0]
    sources, base = _scored(folder) if folder.scores else _relevance(records)
    names = dict.fromkeys(run.arm for run in full)
    starts = {name: _start(name, folder, sources) for name in names}
    made = Target(
        task=task,
        arms=tuple(_arm_row(name, full, records, *starts[name]) for name in names),
        over=_overs(records, "accuracy"),
        over_loss=_overs(records, "loss"),
        ladder=_ladder(runs, records),
        ends=_ends(records),
        sources=sources,
        base=base,
        examples=int(_first(records, lambda one: one.metric == "test_examples") or 0),
        criterion=folder.about.get("criterion", "loss"),
        commonest=_first(records, lambda one: one.arm == COMMONEST),
        left_out=_shares(records, LEFT_OUT),
        own_task=_shares(records, OWN_TASK),
        labels=int(_first(records, lambda one: one.metric == LABELS) or 0),
    )
    return over_seeds(made)


def _first(records: Iterable[Record], fits: Callable[[Record], bool]) -> float | None:
    return next((record.value for record in records if fits(record)), None)


def _shares(records: Iterable[Record], metric: str) -> dict[str, float]:
    """Why sources were not used: shares of the target's prompts that they were trained on."""
    return {r.donor: r.value for r in records if r.metric == metric and r.donor and r.value}


# Runs and arms


def measured(records: Iterable[Record]) -> tuple[RunRow, ...]:
    """The runs behind records, in their order; differences between arms belong to no run."""
    own = [record for record in records if record.seed >= 0]
    order = {key: place for place, key in enumerate(dict.fromkeys(map(_key, own)))}
    groups = groupby(sorted(own, key=lambda r: order[_key(r)]), key=_key)
    return tuple(_run(*key, list(group)) for key, group in groups)


def _key(record: Record) -> tuple[str, int, float]:
    return record.arm, record.seed, record.budget


def _run(arm: str, seed: int, budget: float, records: Iterable[Record]) -> RunRow:
    at: dict[int, dict[str, Any]] = {}
    values: dict[str, float | None] = {}
    for record in records:
        if record.metric in _CURVE:
            place = at.setdefault(record.step, {"seconds": record.seconds, "tokens": record.tokens})
            place[record.metric] = record.value
        else:
            values[record.metric] = record.value
    points = tuple(Point(step=step, **at[step]) for step in sorted(at))
    return RunRow(arm, seed, budget, points, values)


def _arm_row(
    name: str, runs: Iterable[RunRow], records: Iterable[Record], start: str, note: str
) -> ArmRow:
    mine = tuple(run for run in runs if run.arm == name)
    trained = mine[0].trained
    costs = {cost: fmean(run.seconds(cost) for run in mine) for cost in COSTS}
    return ArmRow(
        name=name,
        start=start,
        note=note,
        trained=trained,
        steps=fmean(run.last.step for run in mine),
        accuracy=fmean(run.accuracy for run in mine),
        loss=fmean(run.loss for run in mine),
        accuracy_gain=_gain(name, "test_accuracy_gain", records),
        loss_gain=_gain(name, "test_loss_gain", records),
        costs=costs if trained else costs | {"search": 0.0},
        seconds=fmean(run.seconds("total") for run in mine),
        fair=_reach("fair", mine),
        paper=_reach("paper", mine),
        runs=mine,
    )


def _start(name: str, folder: Folder, sources: Sequence[Source]) -> tuple[str, str]:
    """What an arm of a comparison starts from, and the note on it; empty for experiments."""
    if folder.scores is None:
        return "", ""
    known = [arm for arm in folder.about.get("arms", ()) if arm.get("arm") == name]
    note = next((arm["note"] for arm in known if arm.get("note")), "")
    if known:  # draws that differ between seeds are listed one after another
        return "; ".join(dict.fromkeys(" + ".join(a["parents"]) or _BASE for a in known)), note
    chosen = " + ".join(one.name for one in sources if one.chosen) or _BASE
    best = sources[0].name if sources else _BASE
    guesses = {SCRATCH: _BASE, "best-single": best, "random-two": "two drawn at random"}
    return guesses.get(name, chosen), note


def _gain(
    arm: str, metric: str, records: Iterable[Record], budget: float = 1.0
) -> Difference | None:
    """A difference that was recorded; None when it was not."""
    for record in records:
        found = (record.arm, record.metric, record.budget) == (arm, metric, budget)
        if found and None not in (record.value, record.low, record.high):
            return _difference(record)
    return None


def _overs(records: Sequence[Record], metric: str) -> dict[str, Difference]:
    """What mashup gained over each other arm but scratch, as it was recorded."""
    start = f"test_{metric}_gain_over_"
    names = [one.metric for one in records if one.arm == MASHUP and one.metric.startswith(start)]
    found = {name.removeprefix(start): _gain(MASHUP, name, records) for name in names}
    return {arm: gain for arm, gain in found.items() if gain}


def _difference(record: Record) -> Difference:
    """A value that was recorded with its interval."""
    return Difference(record.value, record.low, record.high)  # type: ignore[arg-type]


def _reach(rule: str, runs: Sequence[RunRow]) -> Reach | None:
    names = ("steps", "seconds", "scratch_steps", "scratch_seconds")
    if f"{rule}_parity_steps" not in runs[0].values:
        return None
    columns = {n: [run.values.get(f"{rule}_parity_{n}") for run in runs] for n in names}
    never = columns["steps"].count(None)
    means = {n: None if None in values else fmean(values) for n, values in columns.items()}  # type: ignore[arg-type]
    return Reach(
        never, len(runs), means["steps"], means["seconds"],
        means["scratch_steps"] or 0.0, means["scratch_seconds"] or 0.0,
    )  # fmt: skip


def _ladder(runs: Sequence[RunRow], records: Sequence[Record]) -> tuple[Rung, ...]:
    """Arms that were run with several budgets, from the smallest budget to the whole."""
    groups: dict[tuple[str, float], list[RunRow]] = {}
    for run in runs:
        groups.setdefault((run.arm, run.budget), []).append(run)
    climbing = dict.fromkeys(arm for arm, budget in groups if budget != 1.0)
    order = [arm for arm in dict.fromkeys(run.arm for run in runs) if arm in climbing]
    keys = sorted((k for k in groups if k[0] in climbing), key=lambda k: (order.index(k[0]), k[1]))
    return tuple(
        Rung(
            arm,
            budget,
            fmean(run.last.step for run in groups[arm, budget]),
            fmean(run.last.dev_loss for run in groups[arm, budget]),
            fmean(run.accuracy for run in groups[arm, budget]),
            fmean(run.seconds("total") for run in groups[arm, budget]),
            _gain(arm, "test_accuracy_gain", records, budget),
            _gain(arm, _full_gain(budget), records, budget),
        )
        for arm, budget in keys
    )


def _full_gain(budget: float) -> str:
    """The metric of a gain over scratch's run of all steps."""
    return "test_accuracy_gain" + ("" if budget == 1.0 else OVER_FULL)


def _ends(records: Iterable[Record]) -> tuple[End, ...]:
    """Whole runs of every learning rate; one row each."""
    found: dict[tuple[str, int, float], dict[str, float | None]] = {}
    for one in records:
        if one.learning_rate is not None and one.budget == 1.0:
            row = found.setdefault((one.arm, one.seed, one.learning_rate), {})
            row[one.metric.removeprefix("end_")] = one.value
    return tuple(
        End(
            pool_of(arm), seed, rate, values.get("dev_loss"), values.get("test_accuracy"),
            values.get("test_loss"),
        )
        for (arm, seed, rate), values in found.items()
    )  # fmt: skip


# Source checkpoints on the sample


def _scored(folder: Folder) -> tuple[tuple[Source, ...], Source]:
    """From ``scores.json``: the sources, best first, and the base."""
    chosen = set(folder.about.get("chosen", ()))

    def source(row: Mapping[str, Any]) -> Source:
        names = ("loss", "accuracy", "difference", "form", "knowledge", "knowledge_error")
        values = {name: row[name] for name in names}
        is_chosen = row["digest"] in chosen
        return Source(name=row["name"], chosen=is_chosen, error=row["standard_error"], **values)

    *ranked, base = folder.scores or ()
    return tuple(map(source, ranked)), replace(source(base), chosen=False)


def _relevance(records: Sequence[Record]) -> tuple[tuple[Source, ...], Source | None]:
    """From the records of an experiment: the sources in their order, and the base."""
    found: dict[str, dict[str, float]] = {}
    for one in records:
        if one.donor is not None and one.value is not None and not one.metric.startswith(LEFT_OUT):
            found.setdefault(one.donor, {})[one.metric.removeprefix("relevance_")] = one.value
    level = found.get(_BASE, {}).get("loss", float("nan"))

    def source(name: str, values: Mapping[str, float]) -> Source:
        return Source(
            name=name,
            chosen=bool(values.get("chosen")),
            loss=values["loss"],
            accuracy=values.get("accuracy"),
            difference=values["loss"] - level,
            form=values.get("form"),
            knowledge=values.get("knowledge"),
            knowledge_error=values.get("knowledge_error"),
            single=_gain(f"single-{name}", "test_accuracy_gain", records),
        )

    made = {name: source(name, values) for name, values in found.items()}
    base = made.pop(_BASE, None)
    return tuple(made.values()), base


# What one seed cannot show


def over_seeds(target: Target) -> Target:
    """The target, with the spread over seeds in each difference that is of a single seed.

    An interval holds the spread over seeds where two arms share several. Where they share one,
    it is of the test examples alone and would call luck of a run "better" or "worse". So the
    variance over seeds of those arms that have several is added to it.
    """
    spread = spread_of(target.arms)
    if spread is None:
        return target
    scratch, mashup = target.arm(SCRATCH), target.arm(MASHUP)

    def wide(
        gain: Difference | None, arm: ArmRow, other: ArmRow | None, of_a_run: float
    ) -> Difference | None:
        return widened(gain, arm, other, of_a_run) if gain and other else gain

    def over(gains: Mapping[str, Difference], of_a_run: float) -> dict[str, Difference]:
        rows = {name: target.arm(name) for name in gains}
        return {
            name: widened(gains[name], mashup, row, of_a_run)
            for name, row in rows.items()
            if row and mashup
        }

    arms = tuple(
        replace(
            arm,
            accuracy_gain=wide(arm.accuracy_gain, arm, scratch, spread.accuracy),
            loss_gain=wide(arm.loss_gain, arm, scratch, spread.loss),
        )
        for arm in target.arms
    )
    return replace(
        target,
        arms=arms,
        over=over(target.over, spread.accuracy),
        over_loss=over(target.over_loss, spread.loss),
        spread=spread,
    )


def spread_of(arms: Iterable[ArmRow]) -> Spread | None:
    """Of trained arms; None when every arm has one seed."""
    several = [arm for arm in arms if arm.trained and len(arm.seeds) > 1]
    if not several:
        return None

    def spread(value: Callable[[RunRow], float]) -> float:
        return fmean(
            variance(
                fmean(value(run) for run in arm.runs if run.seed == seed) for seed in arm.seeds
            )
            for arm in several
        )

    return Spread(spread(lambda run: run.accuracy), spread(lambda run: run.loss))


def widened(gain: Difference, arm: ArmRow, other: ArmRow, of_a_run: float) -> Difference:
    """The interval of a difference on one seed, with what other seeds may change.

    Args:
        gain: ``arm`` minus ``other``, its interval from the test examples.
        arm, other: the two arms.
        of_a_run: variance over seeds of one run. An untrained arm has none, and the mean over
            draws has a part of it.
    """
    shared = arm.seeds & other.seeds
    if len(shared) != 1:
        return gain
    (seed,) = shared
    draws = [sum(run.seed == seed for run in row.runs) for row in (arm, other) if row.trained]
    return gain.widened(sum(of_a_run / number for number in draws))


# Over targets


def make_contrasts(targets: Sequence[Target]) -> tuple[Contrast, ...]:
    """Every arm against scratch, then mashup against every control; one family for Holm."""
    names = dict.fromkeys(arm.name for target in targets for arm in target.arms)
    made = [_against_scratch(name, targets) for name in names if name != SCRATCH]
    made += [_over(name, targets) for name in names if name not in (SCRATCH, MASHUP)]
    known = [one for one in made if one]
    accuracy, loss = holm([one.p for one in known]), holm([one.p_loss for one in known])
    return tuple(
        replace(one, holm=a, holm_loss=b) for one, a, b in zip(known, accuracy, loss, strict=True)
    )


def _against_scratch(name: str, targets: Sequence[Target]) -> Contrast | None:
    rows = {target.task: target.arm(name) for target in targets}
    gains = {task: row.accuracy_gain for task, row in rows.items() if row and row.accuracy_gain}
    losses = {task: row.loss_gain for task, row in rows.items() if row and row.loss_gain}
    return _contrast(name, SCRATCH, gains, losses, targets)


def _over(name: str, targets: Sequence[Target]) -> Contrast | None:
    gains = {one.task: one.over[name] for one in targets if name in one.over}
    losses = {one.task: one.over_loss[name] for one in targets if name in one.over_loss}
    return _contrast(MASHUP, name, gains, losses, targets)


def _contrast(
    arm: str,
    other: str,
    gains: Mapping[str, Difference],
    losses: Mapping[str, Difference],
    targets: Sequence[Target],
) -> Contrast | None:
    if not gains or not losses:
        return None
    on = [target for target in targets if target.task in gains]
    return Contrast(
        arm, other, gains, losses, mean_difference(list(gains.values())),
        mean_difference(list(losses.values())),
        sum(target.examples for target in on),
        seeds=max(target.seeds(arm, other) for target in on),
        is_lone=any(target.is_lone(arm, other) for target in on),
        p=wilcoxon_p([one.value for one in gains.values()]),
        p_loss=wilcoxon_p([one.value for one in losses.values()]),
    )  # fmt: skip


# Families, and several numbers of labels


def by_family(targets: Sequence[Target]) -> tuple[FamilyRow, ...]:
    """Gains by family, which is what stands before ``/`` in a target's name.

    Every arm and budget on every family, on all of them, and on the targets without one. Empty
    unless there are two families, or one and targets without.
    """
    groups: dict[str | None, list[Target]] = {}
    for target in targets:
        groups.setdefault(target.task.rpartition("/")[0], []).append(target)
    named = [name for name in groups if name]
    if not named or len(groups) < 2:
        return ()
    alone = groups.pop("", [])
    if len(named) > 1:
        groups[None] = [target for name in named for target in groups[name]]
    if alone:
        groups[""] = alone
    whole = [arm.name for target in targets for arm in target.arms]
    arms = dict.fromkeys([*whole, *(rung.arm for target in targets for rung in target.ladder)])
    budgets = sorted({rung.budget for target in targets for rung in target.ladder} | {1.0})
    rows = [
        _family(family, arm, budget, found)
        for arm in arms
        for budget in reversed(budgets)
        for family, found in groups.items()
    ]
    return tuple(row for row in rows if row)


def _family(
    family: str | None, arm: str, budget: float, targets: Sequence[Target]
) -> FamilyRow | None:
    """One arm at one budget; None where none of the targets has its gain."""
    found: list[tuple[str, float, Difference, Difference | None]] = []
    for target in targets:
        rung = target.rung(arm, budget)
        row = target.arm(arm)
        if budget == 1.0 and row and row.accuracy_gain:
            found.append((target.task, row.accuracy, row.accuracy_gain, row.accuracy_gain))
        elif budget != 1.0 and rung and rung.gain:
            found.append((target.task, rung.accuracy, rung.gain, rung.full_gain))
    if not found:
        return None
    names, accuracies, gains, full = zip(*found, strict=True)
    return FamilyRow(
        family, arm, budget, names, fmean(accuracies), mean_difference(gains),
        over_tasks([gain.value for gain in gains]),
        None if None in full else mean_difference(full),
    )  # fmt: skip


def by_labels(records: Sequence[Record]) -> tuple[LabelRow, ...]:
    """Arms by number of labels: task by task, the mean over tasks last."""
    sizes = {one.task: int(one.value or 0) for one in records if one.metric == LABELS}
    needed = {(one.task, one.arm): one for one in records if one.metric == NEEDED}
    gains = {
        (one.task, one.arm): _difference(one)
        for one in records
        if one.metric == "test_accuracy_gain" and one.budget == 1.0
    }
    rows = []
    for one in records:
        if one.metric == ACCURACY and one.task in sizes:
            key, data = (one.task, one.arm), data_of(one.task)
            rows.append(
                LabelRow(
                    "" if data == OVER_TASKS else data, sizes[one.task], one.arm,
                    _difference(one), gains.get(key),
                    _needed(needed[key]) if key in needed else None,
                )
            )  # fmt: skip
    return tuple(sorted(rows, key=lambda row: row.task == ""))


def _needed(record: Record) -> Difference:
    """Labels with their interval; None is beyond what was measured."""
    ends = (record.value, record.low, record.high)
    return Difference(*(inf if end is None else end for end in ends))
