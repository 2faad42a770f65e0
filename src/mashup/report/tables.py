"""The tables of a report as values; Markdown and page only differ in how they set them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mashup.report import numbers
from mashup.report.ranking import Ranking, RankRow
from mashup.report.summary import COSTS, ArmRow, Rung, Summary


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
        *("Arm", "Test accuracy", "Test loss", "Gain over scratch, points", "Total seconds"),
        *("Steps to parity", "Seconds to parity", "Paper's rule (flattering)"),
    )
    return Table(columns, tuple(_arm(arm) for arm in summary.arms), second="Starts from")


def _arm(arm: ArmRow) -> tuple[Cell, ...]:
    return (
        Cell(arm.name, arm.start + (f" ({arm.note})" if arm.note else "")),
        Cell(numbers.percent(arm.accuracy)),
        Cell(numbers.loss(arm.loss)),
        _gain(arm),
        Cell(numbers.seconds(arm.seconds)),
        Cell(numbers.reached(arm.fair, "steps"), numbers.saving(arm.fair, "steps")),
        Cell(numbers.reached(arm.fair, "seconds"), numbers.saving(arm.fair, "seconds")),
        _paper(arm),
    )


def _gain(arm: ArmRow) -> Cell:
    if arm.accuracy_gain is None:
        return Cell(numbers.NONE)
    verdict = arm.accuracy_gain.verdict(higher_is_better=True)
    text = numbers.points(arm.accuracy_gain.value)
    return Cell(text, f"{numbers.interval(arm.accuracy_gain)} {verdict}", verdict)


def _paper(arm: ArmRow) -> Cell:
    steps = numbers.reached(arm.paper, "steps")
    if arm.paper is None or arm.paper.never:
        return Cell(steps, numbers.saving(arm.paper, "steps"))
    return Cell(f"{steps} steps", f"{numbers.reached(arm.paper, 'seconds')} s")


def costs_table(summary: Summary) -> Table:
    """Seconds of every arm by what they went to."""
    rows = tuple(
        (
            Cell(arm.name),
            *(Cell(numbers.seconds(arm.costs[cost])) for cost in COSTS),
            Cell(numbers.seconds(arm.seconds)),
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
        Cell(numbers.loss(row.loss)),
        Cell(numbers.percent(row.accuracy)),
        Cell(numbers.NONE if is_base else numbers.difference(row)),
        Cell("yes" if row.chosen else ""),
    )


def ladder_table(summary: Summary) -> Table:
    """Arm by budget, each with its own fully decayed schedule."""
    columns = ("Arm", "Budget", "Steps", "Dev loss", "Test accuracy", "Total seconds")
    return Table(columns, tuple(_rung(rung) for rung in summary.ladder))


def _rung(rung: Rung) -> tuple[Cell, ...]:
    return (
        Cell(rung.arm),
        Cell(f"{100 * rung.budget:.0f} %"),
        Cell(numbers.count(rung.steps)),
        Cell(numbers.loss(rung.dev_loss)),
        Cell(numbers.percent(rung.accuracy)),
        Cell(numbers.seconds(rung.seconds)),
    )


def left_out_table(summary: Summary) -> Table:
    """Checkpoints that were not scored, and why."""
    names = ("where", "what", "found", "fix")
    problems = summary.about.get("left_out", ())
    rows = tuple(tuple(Cell(p.get(name, "")) for name in names) for p in problems)
    return Table(("Checkpoint", "Why", "Found", "What to do"), rows, words=4)
