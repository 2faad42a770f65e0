"""The report of one or several experiments as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mashup._report import numbers
from mashup._report.experiment.cells import Titled
from mashup._report.experiment.drawing import Drawing
from mashup._report.experiment.facts import make_facts
from mashup._report.experiment.models import Models
from mashup._report.experiment.sections import Part, Section
from mashup._report.experiment.verdicts import in_words, lead
from mashup._report.html import Picture, picture_of, render_page


@dataclass(frozen=True)
class Shown:
    """A section with its picture."""

    title: str
    tables: tuple[Titled, ...]
    picture: Picture | None
    folded: bool
    narrow: bool


def page(parts: Sequence[Part], models: Models | None, beside: Sequence[str] = ()) -> str:
    """The whole of ``index.html``.

    Args:
        parts: the experiments.
        models: their table side by side, None for one.
        beside: files that the page links to, relative to it.
    """
    names = numbers.listed([part.study.name for part in parts])
    several = len(parts) > 1
    return render_page(
        "experiment.html.j2",
        title=f"{names}: Mashup Learning",
        eyebrow=f"experiment{'s' if several else ''} {names}",
        headline=f"{len(parts)} experiments side by side" if several else None,
        models=models and {"titled": models.titled, "picture": _drawn(models.drawing)},
        parts=[_shown_part(part) for part in parts],
        beside=beside,
    )


def _shown_part(part: Part) -> dict[str, Any]:
    return {
        "name": part.study.name,
        "prefix": part.prefix,
        "verdict": lead(part.study),
        "words": in_words(part.study),
        "sections": [_shown(section) for section in part.sections],
        "facts": make_facts(part.study),
    }


def _shown(section: Section) -> Shown:
    picture = _drawn(section.drawing) if section.drawing else None
    return Shown(section.title, section.tables, picture, section.folded, section.narrow)


def _drawn(drawing: Drawing) -> Picture:
    return picture_of(drawing.light, drawing.dark, drawing.alt)
