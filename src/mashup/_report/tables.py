"""The tables of a report as values; Markdown and page only differ in how they set them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mashup._report import numbers
from mashup._report.ranking import Ranking, RankRow
from mashup._report.summary import COSTS, ArmRow, Reach, Rung, Summary
from mashup.results.statistics import Difference


@dataclass(frozen=True)
class Cell:
    """Text, what is said below it in small, and a tone (``better``, ``worse``, ``chosen``).

    Attributes:
        value: the number behind the text, for sorting and for CSV; None where it is words.
    """

    text: str
    detail: str = ""
    tone: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """Columns, the first ``words`` of them text and the others numbers, and rows of cells.

    Attributes:
        second: heading for the details of the first column where they need a column of their own.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: int = 1
    second: str = ""


def arms_table(summary: Summary) -> Table:
    """One row an arm: how good, how much better than scratch, how soon."""
    columns = (
        *("Arm", "Test accuracy", "Test loss", "Gain over scratch, points"),
        *("mashup over it, points", "Total seconds", "Steps to parity", "Seconds to parity"),
        "Paper's rule (flattering)",
    )
    rows = tuple(_arm(arm, summary.over.get(arm.name)) for arm in summary.arms)
    return Table(columns, rows, second="Starts from")


def _arm(arm: ArmRow, over: Difference | None) -> tuple[Cell, ...]:
    return (
        Cell(arm.name, arm.start + (f" ({arm.note})" if arm.note else "")),
        Cell(numbers.percent(arm.accuracy), value=arm.accuracy),
        Cell(numbers.loss(arm.loss), value=arm.loss),
        _gain(arm.accuracy_gain),
        _gain(over),
        _seconds(arm.seconds),
        _reach(arm.fair, "steps"),
        _reach(arm.fair, "seconds"),
        _paper(arm),
    )


def _gain(gain: Difference | None) -> Cell:
    if gain is None:
        return Cell(numbers.NONE)
    verdict = gain.verdict(higher_is_better=True)
    return Cell(
        numbers.points(gain.value), f"{numbers.interval(gain)} {verdict}", verdict, gain.value
    )


def _seconds(value: float) -> Cell:
    return Cell(numbers.seconds(value), value=value)


def _reach(reach: Reach | None, unit: str) -> Cell:
    value = getattr(reach, unit) if reach else None
    return Cell(numbers.reached(reach, unit), numbers.saving(reach, unit), value=value)


def _paper(arm: ArmRow) -> Cell:
    steps = _reach(arm.paper, "steps")
    if arm.paper is None or arm.paper.never:
        return steps
    seconds = f"{numbers.reached(arm.paper, 'seconds')} s"
    return Cell(f"{steps.text} steps", seconds, value=steps.value)


def costs_table(summary: Summary) -> Table:
    """Seconds of every arm by what they went to."""
    rows = tuple(
        (
            Cell(arm.name),
            *(_seconds(arm.costs[cost]) for cost in COSTS),
            _seconds(arm.seconds),
        )
        for arm in summary.arms
    )
    columns = ("Arm", "Scoring", "Merging", "Learning-rate search", "Training", "Total")
    return Table(columns, rows)


def ranking_table(ranking: Ranking, rows: Iterable[RankRow]) -> Table:
    """``rows`` of the checkpoints on the sample, or of the base."""
    columns = ("Checkpoint", "Loss", "Accuracy", f"{ranking.criterion_word} − base", "Chosen")
    return Table(columns, tuple(_rank(row, row is ranking.base) for row in rows))


def _rank(row: RankRow, is_base: bool) -> tuple[Cell, ...]:
    tone = "chosen" if row.chosen else ""
    return (
        Cell(row.name, tone=tone),
        Cell(numbers.loss(row.loss), value=row.loss),
        Cell(numbers.percent(row.accuracy), value=row.accuracy),
        Cell(numbers.NONE if is_base else numbers.difference(row), value=row.difference),
        Cell("yes" if row.chosen else ""),
    )


def ladder_table(summary: Summary) -> Table:
    """Arm by budget, each with its own fully decayed schedule."""
    columns = ("Arm", "Budget", "Steps", "Dev loss", "Test accuracy", "Total seconds")
    return Table(columns, tuple(_rung(rung) for rung in summary.ladder))


def _rung(rung: Rung) -> tuple[Cell, ...]:
    return (
        Cell(rung.arm),
        Cell(f"{100 * rung.budget:.0f} %", value=rung.budget),
        Cell(numbers.count(rung.steps), value=rung.steps),
        Cell(numbers.loss(rung.dev_loss), value=rung.dev_loss),
        Cell(numbers.percent(rung.accuracy), value=rung.accuracy),
        _seconds(rung.seconds),
    )


def left_out_table(summary: Summary) -> Table:
    """Checkpoints that were not scored, and why."""
    names = ("where", "what", "found", "fix")
    problems = summary.about.get("left_out", ())
    rows = tuple(tuple(Cell(p.get(name, "")) for name in names) for p in problems)
    return Table(("Checkpoint", "Why", "Found", "What to do"), rows, words=4)
