"""The report of experiments as Markdown, for terminals and pull requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mashup._report.experiment.facts import make_facts
from mashup._report.experiment.models import Models
from mashup._report.experiment.sections import Part, Section
from mashup._report.experiment.verdicts import Lead, in_words, lead
from mashup._report.markdown import capital, escape, render_table


def markdown(parts: Sequence[Part], models: Models | None) -> str:
    """The whole of ``report.md``; pictures lie beside it in ``figures/``."""
    return "\n\n".join(text for text in _texts(parts, models) if text) + "\n"


def _texts(parts: Sequence[Part], models: Models | None) -> Iterator[str]:
    if models:
        yield f"# {models.titled.title}"
        yield render_table(models.titled.table)
        yield models.titled.note
        yield "![Gain of mashup over scratch by experiment](figures/models.png)"
    for part in parts:
        first, words = lead(part.study), in_words(part.study)
        yield f"# {escape(part.study.name)}"
        yield f"**{escape(capital(first.answer))}.**{_behind(first)}"
        yield "\n".join(f"- {escape(capital(text))}." for text in words)
        for section in part.sections:
            yield from _section(section, part.prefix)
        yield "## How this was measured"
        yield "\n".join(f"- {word}: {escape(text)}." for word, text in make_facts(part.study))


def _behind(first: Lead) -> str:
    return f" {escape(capital(first.numbers))}." if first.numbers else ""


def _section(section: Section, prefix: str) -> Iterator[str]:
    yield f"## {section.title}"
    if section.drawing:
        alt = escape(section.drawing.alt).replace("[", "(").replace("]", ")")
        yield f"![{alt}](figures/{prefix}{section.drawing.key}.png)"
    for titled in section.tables:
        if len(section.tables) > 1:
            yield f"### {titled.title}"
        yield render_table(titled.table)
        yield titled.note
