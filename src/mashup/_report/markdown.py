"""The report as Markdown: for the terminal, issues and pull requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mashup._report.formats import escape, to_markdown
from mashup._report.numbers import capital
from mashup._report.sections import Part, Section


def markdown(parts: Sequence[Part], models: Section | None) -> str:
    """The whole of ``report.md``; its pictures lie beside it in ``figures/``."""
    return "\n\n".join(text for text in _texts(parts, models) if text) + "\n"


def _texts(parts: Sequence[Part], models: Section | None) -> Iterator[str]:
    if models:
        yield f"# {models.title}"
        yield from _section(models, "")
    for part in parts:
        verdict = part.verdict
        yield f"# {escape(part.study.name)}"
        behind = f" {escape(capital(verdict.numbers))}." if verdict.clauses else ""
        yield f"**{escape(capital(verdict.lead))}.**{behind}"
        yield "\n".join(f"- {escape(note)}" for note in verdict.notes)
        yield from _section(part.first, part.prefix)
        for section in part.sections:
            yield f"## {section.title}"
            yield from _section(section, part.prefix)
        yield "## How this was measured"
        yield "\n".join(f"- {word}: {escape(text)}." for word, text in part.facts)


def _section(section: Section, prefix: str) -> Iterator[str]:
    for figure in section.figures:
        alt = escape(figure.alt).replace("[", "(").replace("]", ")")
        yield f"![{alt}](figures/{prefix}{figure.key}.png)"
    shown = [table for table in section.tables if table.in_markdown]
    for table in shown:
        if len(shown) > 1:
            yield f"### {table.title}"
        yield to_markdown(table)
        hidden = len(table.rows[table.shown :]) if table.shown is not None else 0
        if hidden:
            yield f"And {hidden} more, in `tables/{prefix}{table.key}.csv`."
        yield escape(table.note)
