"""The report as Markdown, and its tables as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence

from mashup._report.numbers import capital
from mashup._report.sections import Part, Section
from mashup._report.tables import Cell, Table

_NARROWEST = 3  # characters of a column, for a rule that Markdown takes as one
_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "−": "$-$", "–": "--", "±": r"$\pm$", "×": r"$\times$", "<": "$<$", ">": "$>$",
    "[": "{[}",  # after the end of a row it would be an option
}  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"[+-]?[\d.,]+( %)?( ± [\d.,]+)?")


def markdown(parts: Sequence[Part], models: Section | None) -> str:
    """The whole of ``report.md``; its pictures lie next to it in ``figures/``."""
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


def to_markdown(table: Table) -> str:
    """A pipe table whose columns line up in a terminal."""
    columns, words = list(table.columns), table.words
    shown = table.rows[: table.shown]
    rows = [[_markdown_cell(cell) for cell in row] for row in shown]
    if table.second:
        columns.insert(1, table.second)
        words += 1
        for cells, row in zip(rows, shown, strict=True):
            cells[:1] = [escape(row[0].text), escape(row[0].detail)]
    filled = zip(columns, *rows, strict=True)
    widths = [max(_NARROWEST, *(len(text) for text in column)) for column in filled]
    rule = ["-" * w if i < words else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join(_line(cells, widths, words) for cells in (columns, rule, *rows))


def _line(cells: Sequence[str], widths: Sequence[int], words: int) -> str:
    padded = (
        text.ljust(width) if place < words else text.rjust(width)
        for place, (text, width) in enumerate(zip(cells, widths, strict=True))
    )  # fmt: skip
    return f"| {' | '.join(padded)} |"


def _markdown_cell(cell: Cell) -> str:
    detail = f"({cell.detail})" if cell.detail and cell.detail[0] != "[" else cell.detail
    text = escape(f"{cell.text} {detail}".strip())
    return f"**{text}**" if cell.tone == "chosen" and cell.value is not None else text


def escape(text: str) -> str:
    """``text`` for Markdown: nothing in it starts a cell, a line or a tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def to_csv(table: Table) -> str:
    """Numbers in full precision, words as they are; intervals in their own columns (RFC 4180)."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    detailed = [any(row[n].detail for row in table.rows) for n in range(len(table.columns))]
    heads: list[str] = []
    for place, (head, more) in enumerate(zip(table.columns, detailed, strict=True)):
        heads += [head, *([_detail_head(table, place)] if more else [])]
    writer.writerow(heads)
    for row in table.rows:
        cells = zip(row, detailed, strict=True)
        writer.writerow([text for cell, more in cells for text in _csv_texts(cell, more)])
    return stream.getvalue()


def _detail_head(table: Table, place: int) -> str:
    if place == 0 and table.second:
        return table.second
    is_interval = any(row[place].detail.startswith("[") for row in table.rows)
    return f"{table.columns[place]}: {'interval' if is_interval else 'detail'}"


def _csv_texts(cell: Cell, detailed: bool) -> tuple[str, ...]:
    own = as_text(cell.text) if cell.value is None else repr(float(cell.value))
    return (own, as_text(cell.detail)) if detailed else (own,)


def as_text(text: str) -> str:
    """``text`` so that a spreadsheet shows it: a formula is quoted by ``'``.

    Names come from folders and files that anyone may have written (OWASP, CSV injection).
    Numbers stay as they are.
    """
    is_formula = text.startswith(_FORMULA) and not _NUMBER.fullmatch(text)
    return f"'{text}" if is_formula else text


def to_latex(table: Table, label: str) -> str:
    """A ``table`` for booktabs; intervals stand with their numbers."""
    columns = "l" * table.words + "r" * (len(table.columns) - table.words)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_tex(table.title)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _tex_row(escape_tex(name) for name in table.columns),
        r"\midrule",
        *(_tex_row(_tex_cell(cell) for cell in row) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tex_row(texts: Iterable[str]) -> str:
    return " & ".join(texts) + r" \\"


def _tex_cell(cell: Cell) -> str:
    text = escape_tex(f"{cell.text} {cell.detail}".strip())
    return rf"\textbf{{{text}}}" if cell.tone in ("better", "chosen") else text


def escape_tex(text: str) -> str:
    """``text`` for LaTeX: no character in it has a meaning of its own."""
    return "".join(_TEX.get(character, character) for character in text)
