"""Source checkpoints on the samples of the targets: their pictures and tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean

from mashup._report import numbers
from mashup._report.figures import Figure
from mashup._report.plots import Grid, Interval, Look, intervals, matrix
from mashup._report.study import Source, Study, Target
from mashup._report.tables import NOTHING, Cell, Table, loss_cell, percent_cell, whole_cell

_SHOWN, _PICTURED = 10, 30  # rows of a ranking that are seen at once, and that are drawn
_FEWEST = 3  # sources from which a rank correlation is meaningful
#: What the differences of a ranking are of, and their unit.
_CRITERIA = {
    "knowledge": ("Missing knowledge", "bits"),
    "loss": ("Loss", "nats per answer token"),
    "accuracy": ("Error rate", "shares of wrong answers"),
}


# One target: a ranking


def ranking_figure(target: Target) -> Figure | None:
    """Differences of the source checkpoints to the base, with two standard errors either way."""
    rows = target.sources[:_PICTURED]
    if not rows:
        return None
    chosen = [one.name for one in target.sources if one.chosen]
    word, unit = _CRITERIA[target.criterion]
    x_label = f"{word.lower()} minus base, {unit}, ± 2 standard errors"
    alt = (
        f"Difference of each source checkpoint to the base on the sample: {x_label}. Chosen: "
        f"{numbers.listed(chosen) or 'none'}. The table below has the numbers."
    )
    drawing = intervals(
        [(one.name, [_bar(one)]) for one in rows], x_label, bold=frozenset([*chosen, ""]),
        alt=alt,
    )  # fmt: skip
    known = len(target.sources)
    more = f": the best {len(rows)} of {known}" if known > len(rows) else ""
    title = f"Left of the line: better than the base. Filled and bold: chosen{more}"
    return Figure("ranking", title, (drawing,))


def _bar(one: Source) -> Interval:
    look = Look(one.name, "mashup" if one.chosen else "muted", "circle")
    reach = 2 * one.error if one.error is not None else math.nan
    title = f"{one.name}: {numbers.difference(one)}" + ", chosen" * one.chosen
    value = one.difference
    return Interval(look, value, value - reach, value + reach, title, hollow=not one.chosen)


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
        *("Accuracy", f"{word} − base", "Chosen"),
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
        loss_cell(one.loss),
        *((_bits(one.form), _bits(known, one.knowledge_error)) if has_form else ()),
        percent_cell(one.accuracy) if one.accuracy is not None else NOTHING,
        NOTHING if one is base else Cell(numbers.difference(one), value=one.difference),
        Cell("yes" if one.chosen else ""),
    )


def _bits(value: float | None, error: float | None = None) -> Cell:
    if value is None:
        return NOTHING
    plus = f" ± {error:.2f}" if error is not None else ""
    return Cell(f"{numbers.signed(value, 2)}{plus}", value=value)


# Several targets: every source on every target


def sources_figures(study: Study) -> tuple[Figure, ...]:
    """Every source on every target: loss, knowledge, and the gain after training, where known."""
    grids: tuple[tuple[str, str, Grid | None, Callable[[float], str]], ...] = (
        ("donors", "Relevance: nats below the base", relevance_grid(study), _two_digits),
        ("knowledge", "Knowledge, bits", knowledge_grid(study), _two_digits),
        ("donor-gains", "Gain after training, points", singles_grid(study), numbers.points),
    )
    return tuple(
        Figure(
            key, title,
            (matrix(title, grid, show, "source", f"Heat map of every source checkpoint on every "
                    f"target. {title}. Framed: chosen. A table has the numbers."),),
        )
        for key, title, grid, show in grids
        if grid
    )  # fmt: skip


def _two_digits(value: float) -> str:
    return numbers.signed(value, 2)


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
        return NOTHING if value is None else Cell(show(value), tone=tone, value=value)

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
    rows = tuple(
        (Cell(d), Cell(numbers.listed(found)), whole_cell(len(found))) for d, found in order
    )
    columns = ("Source", "Chosen for", "Times")
    return Table("chosen", "Which source checkpoints were chosen", columns, rows, words=2)


def left_out_table(study: Study) -> Table | None:
    """Sources that were not used, since they know the target's rows or are of its own task."""
    rows = tuple(
        (Cell(name), Cell(target.task), Cell(why), percent_cell(share))
        for target in study.targets
        for why, shares in (("its own task", target.own_task), ("held-out rows", target.left_out))
        for name, share in shares.items()
    )
    if not rows:
        return None
    note = (
        "Held-out rows: trained on dev and test prompts of the target, so its gain would be "
        "memory. Its own task: trained on the target's training prompts, or named after it. "
        "Sources of this experiment and runs of `mashup train` list their prompts; of others, the "
        "datasets that they name are searched where they are on this machine."
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
