"""Accuracy against the number of labels, and how many labels a start saves."""

from __future__ import annotations

import math

from mashup._report import numbers
from mashup._report.canvas import Drawing
from mashup._report.figures import Figure, looks
from mashup._report.plots import Look, Series, lines
from mashup._report.study import SCRATCH, LabelRow, Study
from mashup._report.tables import NOTHING, Cell, Table, gain_cell, whole_cell
from mashup.results.statistics import Difference

_MEAN = "(mean over tasks)"
_SHIFT = 1.03  # factor between the places of two arms, so that no interval hides another


def labels_table(study: Study) -> Table | None:
    """Every arm with every number of labels, and how many labels scratch needs to be as good."""
    rows = study.by_labels
    if not rows:
        return None
    columns = (
        *("Task", "Arm", "Labels", "Test accuracy", "Over scratch, points"),
        *("Labels that scratch needs for it", "Times as many"),
    )
    tasks = _tasks(study)
    ends = {task: _measured(study, task) for task in tasks}
    note = (
        "Labels are training examples. The dev rows, which choose learning rate and step, are "
        "labelled too: the same for every arm and size. Scratch's accuracy is interpolated in the "
        "logarithm of the labels between the numbers that were measured, and never beyond them. "
        "In brackets: 95 % intervals of a resampling of test examples that holds for all arms and "
        "sizes, with the spread over seeds."
    )
    order = {arm: place for place, arm in enumerate(study.arms)}
    ordered = sorted(
        rows, key=lambda row: (tasks.index(row.task), order.get(row.arm, len(order)), row.labels)
    )
    made = tuple(_row(row, *ends[row.task]) for row in ordered)
    first = sum(row.task == tasks[0] for row in rows)
    return Table("labels", "Number of labels", columns, made, words=2, note=note, shown=first)


def _tasks(study: Study) -> list[str]:
    """The mean over tasks first, where there is one."""
    return sorted(dict.fromkeys(row.task for row in study.by_labels), key=lambda task: task != "")


def _measured(study: Study, task: str) -> tuple[int, int]:
    """The smallest and the largest number of labels of scratch on a task."""
    found = [r.labels for r in study.by_labels if (r.task, r.arm) == (task, SCRATCH)]
    return (min(found), max(found)) if found else (0, 0)


def _row(row: LabelRow, least: int, most: int) -> tuple[Cell, ...]:
    accuracy = row.accuracy
    ends = f"[{numbers.percent(accuracy.low)}, {numbers.percent(accuracy.high)}]"
    return (
        Cell(row.task or _MEAN),
        Cell(row.arm),
        whole_cell(row.labels),
        Cell(numbers.percent(accuracy.value), ends, value=accuracy.value),
        gain_cell(row.gain),
        needed_cell(row.needed, least, most),
        needed_cell(row.needed, least, most, row.labels),
    )


def needed_cell(needed: Difference | None, least: int, most: int, unit: int = 0) -> Cell:
    """Labels, or times ``unit`` labels; ``more than 256`` and ``fewer than 16`` at the ends."""
    if needed is None:
        return NOTHING

    def shown(labels: float) -> str:
        if math.isinf(labels):
            return f"more than {_amount(most, unit)}"
        return _amount(labels, unit) if labels else f"fewer than {_amount(least, unit)}"

    tone = "better" if needed.low > (unit or math.inf) else ""
    known = 0 < needed.value < math.inf
    value = (needed.value / unit if unit else needed.value) if known else None
    return Cell(shown(needed.value), f"[{shown(needed.low)}, {shown(needed.high)}]", tone, value)


def _amount(labels: float, unit: int) -> str:
    return f"{labels / unit:.1f}" if unit else f"{labels:.0f}"


def labels_figure(study: Study) -> Figure | None:
    """A diagram for each task and one for their mean: a line an arm, with intervals."""
    rows = study.by_labels
    several = [
        arm
        for arm in dict.fromkeys(row.arm for row in rows)
        if len({row.labels for row in rows if row.arm == arm}) > 1
    ]
    if not several:
        return None
    known = looks(study, several)
    drawings = tuple(_drawing(study, task, known) for task in _tasks(study))
    return Figure(
        "labels", "Test accuracy against the number of labels", drawings, tuple(known.values()),
        across=min(3, len(drawings)),
    )  # fmt: skip


def _drawing(study: Study, task: str, known: dict[str, Look]) -> Drawing:
    series: list[Series] = []
    titles: list[str] = []
    for place, (arm, look) in enumerate(known.items()):
        found = [row for row in study.by_labels if (row.task, row.arm) == (task, arm)]
        found.sort(key=lambda row: row.labels)
        shift = _SHIFT ** (place - (len(known) - 1) / 2)
        points = tuple((row.labels * shift, 100 * row.accuracy.value) for row in found)
        ends = tuple((100 * row.accuracy.low, 100 * row.accuracy.high) for row in found)
        names = tuple(
            f"{arm}, {row.labels} labels: {numbers.percent(row.accuracy.value)}" for row in found
        )
        series += [Series(look, points, names, ranges=ends)] if points else []
        titles += names
    sizes = sorted({row.labels for row in study.by_labels if row.task == task})
    title = task or "Mean over tasks"
    return lines(
        f"{title}: test accuracy, %", "labels", series, x_values=[float(size) for size in sizes],
        alt=f"Test accuracy against the number of labels, {title}: {', '.join(titles)}.",
    )  # fmt: skip
