"""From the files of a comparison to the values that its table, pictures and page show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from mashup._report.material import Material, Measured, measured
from mashup._report.ranking import Ranking, make_ranking
from mashup._report.summary import COSTS, MASHUP, SCRATCH, ArmRow, Reach, Rung, Summary
from mashup.results.records import COMMONEST, Record
from mashup.results.statistics import Difference


def summarise(material: Material) -> Summary:
    """Everything that is shown, from the files alone."""
    runs, records, about = measured(material.records), material.records, material.about
    ranking = make_ranking(material.scores, about)
    full = [run for run in runs if run.budget == 1.0]
    names = dict.fromkeys(run.arm for run in full)
    arms = tuple(_described(name, full, records, about, ranking) for name in names)
    seeds = tuple(dict.fromkeys(run.seed for run in full))
    commonest = commonest_of(records)
    over = overs(records, "accuracy")
    return Summary(records[0].task, seeds, arms, ladder(runs), ranking, about, commonest, over)


def _described(
    name: str,
    runs: Iterable[Measured],
    records: Iterable[Record],
    about: dict[str, Any],
    ranking: Ranking,
) -> ArmRow:
    known = [arm for arm in about.get("arms", ()) if arm.get("arm") == name]
    note = next((arm["note"] for arm in known if arm.get("note")), "")
    return arm_row(name, runs, records, start=_start(name, known, ranking), note=note)


def arm_row(
    name: str,
    runs: Iterable[Measured],
    records: Iterable[Record],
    *,
    start: str = "",
    note: str = "",
) -> ArmRow:
    """One arm at full budget, from its runs and the records of its task."""
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
        accuracy_gain=gain_of(name, "test_accuracy_gain", records),
        loss_gain=gain_of(name, "test_loss_gain", records),
        costs=costs if trained else costs | {"search": 0.0},
        seconds=fmean(run.seconds("total") for run in mine),
        fair=_reach("fair", mine),
        paper=_reach("paper", mine),
        runs=mine,
    )


def _start(name: str, known: Sequence[dict[str, Any]], ranking: Ranking) -> str:
    """What an arm starts from; draws that differ between seeds are listed one after another."""
    if known:
        sets = dict.fromkeys(" + ".join(arm["parents"]) or "base" for arm in known)
        return "; ".join(sets)
    chosen = " + ".join(row.name for row in ranking.rows if row.chosen) or "base"
    best = ranking.rows[0].name if ranking.rows else "base"
    guesses = {SCRATCH: "base", "best-single": best, "random-two": "two drawn at random"}
    return guesses.get(name, chosen)


def gain_of(arm: str, metric: str, records: Iterable[Record]) -> Difference | None:
    """A difference that was recorded; None when it was not."""
    for record in records:
        found = record.arm == arm and record.metric == metric
        if found and None not in (record.value, record.low, record.high):
            return Difference(record.value, record.low, record.high)  # type: ignore[arg-type]
    return None


def overs(records: Iterable[Record], metric: str) -> dict[str, Difference]:
    """What mashup gained over each other arm but scratch, as it was recorded.

    Args:
        records: of one task.
        metric: ``accuracy`` or ``loss``.
    """
    start = f"test_{metric}_gain_over_"
    names = [one.metric for one in records if one.arm == MASHUP and one.metric.startswith(start)]
    found = {name.removeprefix(start): gain_of(MASHUP, name, records) for name in names}
    return {arm: gain for arm, gain in found.items() if gain}


def commonest_of(records: Iterable[Record]) -> float | None:
    """Test accuracy of the commonest answer; None where it was not recorded."""
    return next((record.value for record in records if record.arm == COMMONEST), None)


def _reach(rule: str, runs: Sequence[Measured]) -> Reach | None:
    """By the rule named ``rule``; None when it was not measured."""
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


def ladder(runs: Sequence[Measured]) -> tuple[Rung, ...]:
    """Arms that were run with several budgets, budget by budget."""
    keys = sorted({(run.arm, run.budget) for run in runs}, key=lambda key: key[1])
    climbing = {arm for arm, budget in keys if budget != 1.0}
    order = [arm for arm in dict.fromkeys(run.arm for run in runs) if arm in climbing]
    return tuple(
        _rung(arm, budget, [r for r in runs if (r.arm, r.budget) == (arm, budget)])
        for arm in order
        for name, budget in keys
        if name == arm
    )


def _rung(arm: str, budget: float, runs: Sequence[Measured]) -> Rung:
    return Rung(
        arm,
        budget,
        fmean(run.last.step for run in runs),
        fmean(run.last.dev_loss for run in runs),
        fmean(run.accuracy for run in runs),
        fmean(run.seconds("total") for run in runs),
    )
