"""The report as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from mashup._report import numbers
from mashup._report.facts import make_facts
from mashup._report.figures import panel_figure, ranking_figure, render
from mashup._report.html import Picture, picture_of, render_page
from mashup._report.ladder import ladder_sentences
from mashup._report.markdown import capital
from mashup._report.panels import PANELS, Panel
from mashup._report.ranking import Ranking
from mashup._report.style import DARK, LIGHT, marker
from mashup._report.summary import Summary
from mashup._report.tables import (
    arms_table,
    costs_table,
    ladder_table,
    left_out_table,
    ranking_table,
)
from mashup._report.verdict import Verdict, make_verdict


@dataclass(frozen=True)
class Key:
    """One entry of the legend: colours for light and dark, mark, whether it has a line."""

    name: str
    light: str
    dark: str
    mark: str
    line: bool


@dataclass(frozen=True)
class Tile:
    """One large number."""

    label: str
    value: str
    detail: str = ""
    tone: str = ""


def page(summary: Summary) -> str:
    """The whole of ``index.html``."""
    verdict = make_verdict(summary)
    return render_page(
        "comparison.html.j2",
        summary=summary,
        verdict=verdict,
        tiles=_tiles(summary, verdict),
        keys=_keys(summary),
        panels=[_panel(panel, summary) for panel in PANELS],
        ranking_picture=_ranking(summary.ranking),
        tables=_tables(summary),
        ladder_sentences=ladder_sentences(summary),
        facts=make_facts(summary),
    )


def _tables(summary: Summary) -> dict[str, Any]:
    ranking = summary.ranking
    return {
        "arms": arms_table(summary),
        "costs": costs_table(summary),
        "ranking": ranking_table(ranking, (*ranking.open, ranking.base)),
        "folded": ranking_table(ranking, ranking.folded),
        "ladder": ladder_table(summary),
        "left_out": left_out_table(summary),
    }


def _tiles(summary: Summary, verdict: Verdict) -> list[Tile]:
    arm = summary.subject
    if arm is None or arm.accuracy_gain is None or verdict.tone == "none":
        return []
    gain, fair = arm.accuracy_gain, arm.fair
    steps, seconds = (numbers.reached(fair, unit) for unit in ("steps", "seconds"))
    return [
        Tile("Test accuracy", numbers.percent(arm.accuracy), _versus(summary)),
        Tile(
            "Gain, points", numbers.points(gain.value), f"{numbers.interval(gain)} {verdict.tone}",
            verdict.tone,
        ),
        Tile("Steps to parity", steps, _than_scratch(numbers.saving(fair, "steps"))),
        Tile("Seconds to parity", seconds, _than_scratch(numbers.saving(fair, "seconds"))),
    ]  # fmt: skip


def _versus(summary: Summary) -> str:
    return f"scratch {numbers.percent(summary.scratch.accuracy)}"


def _than_scratch(saving: str) -> str:
    return f"{saving} than scratch" if saving.endswith(("more", "fewer")) else saving


def _panel(panel: Panel, summary: Summary) -> Picture:
    ends = [f"{arm.name} ends at {_end(panel, arm.runs)}" for arm in summary.arms if arm.trained]
    light, dark = (render(panel_figure(panel, summary, theme), "svg") for theme in (LIGHT, DARK))
    return picture_of(light, dark, f"{panel.alt} {capital(', '.join(ends))}.")


def _end(panel: Panel, runs: Any) -> str:
    value = panel.end(runs)
    return numbers.loss(value) if panel.is_loss else numbers.percent(value / 100)


def _ranking(ranking: Ranking) -> Picture:
    light, dark = (render(ranking_figure(ranking, theme), "svg") for theme in (LIGHT, DARK))
    chosen = [row.name for row in ranking.rows if row.chosen]
    alt = (
        f"{ranking.criterion_word} of each checkpoint against the base with two standard errors. "
        f"Chosen: {numbers.listed(chosen) or 'none'}. The table below has the numbers."
    )
    return picture_of(light, dark, alt)


_MARKS = {
    "s": '<rect x="9" y="3" width="8" height="8"/>',
    "o": '<circle cx="13" cy="7" r="4.2"/>',
    "D": '<path d="M13 1.6 18.4 7 13 12.4 7.6 7z"/>',
    "^": '<path d="M13 2 18 11H8z"/>',
    "*": '<path d="M13 0l1.8 4.7 5 .2-3.9 3.1 1.3 4.9L13 10.1l-4.2 2.8 1.3-4.9-3.9-3.1 5-.2z"/>',
}


def _keys(summary: Summary) -> list[Key]:
    return [
        Key(
            arm.name,
            LIGHT.colour(arm.name, place),
            DARK.colour(arm.name, place),
            Markup(_MARKS.get(marker(arm.name, place), _MARKS["o"])),  # our own constant
            arm.trained,
        )
        for place, arm in enumerate(summary.arms)
    ]
