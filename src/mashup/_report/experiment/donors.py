"""Tables of donors: who fits whom, what training from each gains, who was chosen how often."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean

from scipy.stats import spearmanr

from mashup._report import numbers
from mashup._report.experiment.cells import Titled, percent, whole
from mashup._report.experiment.summary import Relevance, Study, Target
from mashup._report.tables import Cell, Table

_FEWEST = 3  # donors from which a rank correlation says something


@dataclass(frozen=True)
class Grid:
    """A donor × target matrix.

    Attributes:
        donors, targets: rows and columns.
        values: by donor and target; a donor's own task has none.
        chosen: pairs that were chosen.
    """

    donors: tuple[str, ...]
    targets: tuple[str, ...]
    values: Mapping[tuple[str, str], float]
    chosen: frozenset[tuple[str, str]]


def relevance_grid(study: Study) -> Grid | None:
    """Loss of the base minus that of the donor on the target's sample, nats; more is better."""
    return _grid(study, lambda one: one.gain)


def singles_grid(study: Study) -> Grid | None:
    """Test accuracy gained over scratch by training from each donor alone."""
    return _grid(study, lambda one: one.single.value if one.single else None)


def _grid(study: Study, value: Callable[[Relevance], float | None]) -> Grid | None:
    values, chosen = {}, set()
    for target in study.targets:
        for one in target.relevance:
            if (found := value(one)) is not None:
                values[one.donor, target.task] = found
            if one.chosen:
                chosen.add((one.donor, target.task))
    if not values:
        return None
    targets = tuple(target.task for target in study.targets)
    known = {donor for donor, _ in values}
    donors = (*(one for one in targets if one in known), *sorted(known.difference(targets)))
    return Grid(donors, targets, values, frozenset(chosen))


def relevance_table(study: Study) -> Titled | None:
    """The matrix before training."""
    grid = relevance_grid(study)
    if grid is None:
        return None
    note = (
        "Loss of the base minus loss of the donor on the target's sample, nats an answer token: "
        "more is better. Chosen donors are bold here and framed in the picture. A strategy may "
        "pass over a donor after a few examples."
    )
    table = _matrix(grid, lambda value: numbers.signed(value, 2))
    return Titled("relevance", "Relevance of donors before training", table, note)


def singles_table(study: Study) -> Titled | None:
    """The matrix after training, and whether relevance had told it."""
    grid = singles_grid(study)
    if grid is None:
        return None
    note = f"Points of test accuracy over scratch, from each donor alone. {_told(study)}"
    return Titled(
        "gains", "Gains after training from each donor", _matrix(grid, numbers.points), note
    )


def _matrix(grid: Grid, show: Callable[[float], str]) -> Table:
    rows = tuple(
        (Cell(donor), *(_entry(grid, donor, target, show) for target in grid.targets))
        for donor in grid.donors
    )
    return Table(("Donor", *grid.targets), rows)


def _entry(grid: Grid, donor: str, target: str, show: Callable[[float], str]) -> Cell:
    value = grid.values.get((donor, target))
    if value is None:
        return Cell(numbers.NONE)
    tone = "chosen" if (donor, target) in grid.chosen else ""
    return Cell(show(value), tone=tone, value=value)


def agreement(target: Target) -> float | None:
    """Spearman's rank correlation of relevance with the gain after training, over donors."""
    pairs = [(one.gain, one.single.value) for one in target.relevance if one.single]
    if len(pairs) < _FEWEST or any(len(set(column)) < 2 for column in zip(*pairs, strict=True)):
        return None
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def _told(study: Study) -> str:
    known = [found for target in study.targets if (found := agreement(target)) is not None]
    if not known:
        return ""
    return (
        f"Rank correlation with relevance (Spearman, over donors): {fmean(known):+.2f} on average "
        f"of {numbers.plural(len(known), 'target')}, {min(known):+.2f} to {max(known):+.2f}."
    )


def chosen_table(study: Study) -> Titled | None:
    """How often each donor was chosen, and for what."""
    by_donor: dict[str, list[str]] = {}
    for target in study.targets:
        for one in target.relevance:
            by_donor.setdefault(one.donor, []).extend([target.task] if one.chosen else [])
    if not by_donor:
        return None
    order = sorted(by_donor.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    rows = tuple((Cell(d), Cell(numbers.listed(tasks)), whole(len(tasks))) for d, tasks in order)
    table = Table(("Donor", "Chosen for", "Times"), rows, words=2)
    return Titled("chosen", "Which donors were chosen", table)


def left_out_table(study: Study) -> Titled | None:
    """Donors that were not used, and on how much of a target's held-out rows they were trained."""
    rows = tuple(
        (Cell(donor), Cell(target.task), percent(share))
        for target in study.targets
        for donor, share in target.left_out.items()
    )
    if not rows:
        return None
    note = (
        "Trained on the target's held-out rows: their gain would be memory. Only donors of this "
        "experiment and runs of mashup train can be checked."
    )
    table = Table(("Donor", "Left out for", "Trained on its dev and test prompts"), rows, words=2)
    return Titled("left-out", "Donors that were left out", table, note)
