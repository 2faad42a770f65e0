"""The order of a report: which tables and pictures stand under which heading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mashup._report.experiment.cells import Titled
from mashup._report.experiment.donors import (
    chosen_table,
    left_out_table,
    relevance_table,
    singles_table,
)
from mashup._report.experiment.drawing import Drawing
from mashup._report.experiment.figures import drawings
from mashup._report.experiment.savings import ladder_table, parity_table, rates_table
from mashup._report.experiment.summary import Study
from mashup._report.experiment.tables import (
    arms_table,
    contrasts_table,
    costs_table,
    results_table,
    seeds_table,
)


@dataclass(frozen=True)
class Section:
    """One heading with what stands under it.

    Attributes:
        drawing: shown above the tables.
        folded: tables that are opened on demand where a page can do that.
    """

    title: str
    tables: tuple[Titled, ...] = ()
    drawing: Drawing | None = None
    folded: bool = False
    narrow: bool = False


@dataclass(frozen=True)
class Part:
    """One experiment of a report.

    Attributes:
        prefix: what the names of its files begin with, where there are several experiments.
    """

    study: Study
    sections: tuple[Section, ...]
    prefix: str = ""


def make_parts(studies: Sequence[Study]) -> tuple[Part, ...]:
    """Everything that is shown, experiment by experiment."""
    several = len(studies) > 1
    return tuple(Part(s, sections(s), f"{s.name}-" if several else "") for s in studies)


def sections(study: Study) -> tuple[Section, ...]:
    """Of one experiment; headings without content are left out."""
    drawn = {one.key: one for one in drawings(study)}
    made = (
        Section("Comparisons", _some(contrasts_table(study)), drawn.get("gains")),
        Section("Arms", _some(arms_table(study)), narrow=True),
        Section("Costs in seconds", _some(costs_table(study)), drawn["costs"], narrow=True),
        Section("Steps and seconds to parity", _some(parity_table(study))),
        Section("Test accuracy over steps", (), drawn["curves-accuracy"]),
        Section("Dev loss over steps", (), drawn["curves-dev"]),
        Section("Budget ladder", _some(ladder_table(study)), drawn.get("ladder"), narrow=True),
        Section("Learning rates", _some(rates_table(study)), drawn.get("rates"), folded=True),
        Section("Donors", _donors(study), drawn.get("donors"), folded=True),
        Section("Several seeds", _some(seeds_table(study)), narrow=True),
        Section("Results by target and arm", _some(results_table(study)), folded=True),
    )
    return tuple(one for one in made if one.tables or one.drawing)


def _donors(study: Study) -> tuple[Titled, ...]:
    return _some(
        relevance_table(study), singles_table(study), chosen_table(study), left_out_table(study)
    )


def _some(*tables: Titled | None) -> tuple[Titled, ...]:
    return tuple(table for table in tables if table and table.table.rows)
