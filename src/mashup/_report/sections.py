"""The order of a report: which tables and pictures stand under which heading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mashup._report.facts import make_facts
from mashup._report.families import families_figure, families_table
from mashup._report.figures import (
    Figure,
    arms_figure,
    costs_figure,
    curves_figures,
    gains_figure,
    ladder_figure,
    models_figure,
    rates_figure,
)
from mashup._report.labels import labels_figure, labels_table
from mashup._report.sources import (
    chosen_table,
    knowledge_table,
    left_out_table,
    problems_table,
    ranking_figure,
    ranking_table,
    relevance_table,
    singles_table,
    sources_figures,
)
from mashup._report.study import Study
from mashup._report.tables import (
    Table,
    arms_table,
    contrasts_table,
    costs_table,
    curves_table,
    ladder_table,
    models_table,
    parity_table,
    rates_table,
    results_table,
    seeds_table,
)
from mashup._report.verdict import Verdict, make_verdict


@dataclass(frozen=True)
class Section:
    """One heading, with pictures above tables."""

    title: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Part:
    """One experiment of a report.

    Attributes:
        prefix: what the names of its files begin with, where there are several experiments.
        first: the first screen: the picture of gains and the table of arms.
        sections: everything else.
        facts: how it was measured, as pairs of a word and a sentence.
    """

    study: Study
    prefix: str
    verdict: Verdict
    first: Section
    sections: tuple[Section, ...]
    facts: tuple[tuple[str, str], ...]


def make_parts(studies: Sequence[Study]) -> tuple[Part, ...]:
    """Everything that is shown, experiment by experiment."""
    several = len(studies) > 1
    return tuple(
        Part(
            study=study,
            prefix=f"{study.name}-" if several else "",
            verdict=make_verdict(study),
            first=Section("Arms", _some(gains_figure(study)), _filled(arms_table(study))),
            sections=_sections(study),
            facts=make_facts(study),
        )
        for study in studies
    )


def side_by_side(studies: Sequence[Study]) -> Section | None:
    """Several experiments against each other; None for a single one."""
    if len(studies) < 2:
        return None
    table = models_table(studies)
    return Section(table.title, (models_figure(studies),), (table,))


def _sections(study: Study) -> tuple[Section, ...]:
    """Below the first screen; headings without content are skipped."""
    made = (
        Section("Comparisons", _some(arms_figure(study)), _filled(contrasts_table(study))),
        Section("Families", _some(families_figure(study)), _filled(families_table(study))),
        Section("Number of labels", _some(labels_figure(study)), _filled(labels_table(study))),
        Section("Results by target and arm", (), _filled(results_table(study))),
        Section("Curves", curves_figures(study), _filled(curves_table(study))),
        Section("Costs in seconds", (costs_figure(study),), _filled(costs_table(study))),
        Section("Steps and seconds to parity", (), _filled(parity_table(study))),
        Section("Budget ladder", _some(ladder_figure(study)), _filled(ladder_table(study))),
        Section("Learning rates", _some(rates_figure(study)), _filled(rates_table(study))),
        _sources(study),
        Section("Several seeds", (), _filled(seeds_table(study))),
    )
    return tuple(one for one in made if one.tables or one.figures)


def _sources(study: Study) -> Section:
    """A ranking where there is one target, else every source on every target."""
    skipped = left_out_table(study), problems_table(study)
    if study.only:
        figures = _some(ranking_figure(study.only))
        tables = _filled(ranking_table(study.only), singles_table(study), *skipped)
    else:
        figures = sources_figures(study)
        tables = _filled(
            relevance_table(study), knowledge_table(study), singles_table(study),
            chosen_table(study), *skipped,
        )  # fmt: skip
    return Section("Source checkpoints", figures, tables)


def _some(*figures: Figure | None) -> tuple[Figure, ...]:
    return tuple(figure for figure in figures if figure)


def _filled(*tables: Table | None) -> tuple[Table, ...]:
    return tuple(table for table in tables if table and table.rows)
