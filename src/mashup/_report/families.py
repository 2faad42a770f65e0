"""Gains by family of targets: the part of their names before the slash."""

from __future__ import annotations

from mashup._report import numbers
from mashup._report.figures import RACE, Figure, looks
from mashup._report.plots import Interval, Look, intervals
from mashup._report.study import FamilyRow, Study
from mashup._report.tables import NOTHING, Cell, Table, gain_cell, percent_cell, whole_cell

_ALL, _NONE = "all families", "(no family)"


def families_table(study: Study) -> Table | None:
    """Every arm and budget on every family, on all of them, and on targets without one."""
    if not study.by_family:
        return None
    columns = (
        *("Arm", "Family", "Budget", "Targets", "Test accuracy", "Over scratch, points"),
        *("Interval over targets", "Over scratch's full run, points"),
    )
    note = (
        "A family is the part of a target's name before the slash. Gains are over scratch at the "
        "same budget, means over targets. Their intervals are for these targets (test examples and "
        "seeds). The interval over targets (Student's) is for other targets of this kind: it is "
        "wide for few targets."
    )
    ordered = sorted(study.by_family, key=lambda row: row.arm != study.subject)
    rows = tuple(map(_row, ordered))
    first = sum(row.arm == study.subject for row in ordered)
    return Table("families", "Families", columns, rows, words=2, note=note, shown=first)


def name_of(row: FamilyRow) -> str:
    """What tables call a family."""
    return _ALL if row.family is None else row.family or _NONE


def _row(row: FamilyRow) -> tuple[Cell, ...]:
    spread = row.spread
    return (
        Cell(row.arm),
        Cell(name_of(row)),
        Cell(f"{100 * row.budget:.0f} %", value=row.budget),
        whole_cell(len(row.targets)),
        percent_cell(row.accuracy),
        gain_cell(row.gain),
        Cell(numbers.interval(spread)) if spread else NOTHING,
        gain_cell(row.full_gain),
    )


def families_figure(study: Study) -> Figure | None:
    """A row for each family: the arms that the verdict is about, whole runs and shorter ones."""
    arms = [arm for arm in (study.subject, RACE) if arm in study.arms]
    rows = [row for row in study.by_family if row.arm in arms]
    if not rows:
        return None
    known = looks(study, arms)
    families = dict.fromkeys(map(name_of, rows))
    drawn = [
        (family, [_interval(row, known[row.arm]) for row in rows if name_of(row) == family])
        for family in families
    ]
    whole = next((n for n, family in enumerate(families) if family == _ALL), None)
    brief = sorted({row.budget for row in rows} - {1.0})
    hollow = f"; hollow: {numbers.listed([f'{100 * b:.0f} %' for b in brief])} of the steps"
    titles = [f"{name}: {one.title}" for name, found in drawn for one in found]
    drawing = intervals(
        drawn, f"points of test accuracy over scratch{hollow * bool(brief)}", rule_above=whole,
        alt=f"Gains over scratch by family, thin lines over targets. {'. '.join(titles)}.",
    )  # fmt: skip
    shown = tuple(known.values()) if len(known) > 1 else ()
    return Figure("families", "Gain over scratch by family", (drawing,), shown)


def _interval(row: FamilyRow, look: Look) -> Interval:
    gain, spread = row.gain, row.spread
    words = f"{row.arm}, {100 * row.budget:.0f} % of the steps, {name_of(row)}"
    title = f"{words}: {numbers.points(gain.value)} points {numbers.interval(gain)}"
    outer = (100 * spread.low, 100 * spread.high) if spread else None
    return Interval(
        look, 100 * gain.value, 100 * gain.low, 100 * gain.high, title, row.budget != 1.0, outer
    )
