"""A table as CSV and as LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

from mashup._report.tables import Cell, Table

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "−": "$-$", "–": "--", "±": r"$\pm$", "×": r"$\times$", "<": "$<$", ">": "$>$",
    "[": "{[}",  # after the end of a row it would be an option
}  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"[+-]?[\d.,]+( %)?( ± [\d.,]+)?")


def to_csv(table: Table) -> str:
    """Numbers in full precision, words as they are; intervals in own columns (RFC 4180)."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    detailed = [any(row[n].detail for row in table.rows) for n in range(len(table.columns))]
    heads = zip(table.columns, detailed, strict=True)
    writer.writerow([name for head, more in heads for name in (head, *_detail_head(head, more))])
    for row in table.rows:
        cells = zip(row, detailed, strict=True)
        writer.writerow([text for cell, more in cells for text in _values(cell, more)])
    return stream.getvalue()


def _detail_head(head: str, detailed: bool) -> tuple[str, ...]:
    return (f"{head}: interval",) if detailed else ()


def _values(cell: Cell, detailed: bool) -> tuple[str, ...]:
    own = as_text(cell.text) if cell.value is None else repr(float(cell.value))
    return (own, as_text(cell.detail)) if detailed else (own,)


def as_text(text: str) -> str:
    """``text`` as a spreadsheet shows it: what it would take as a formula is quoted by ``'``.

    Names come from folders and files that anyone may have written (OWASP, CSV injection).
    Numbers stay as they are.
    """
    is_formula = text.startswith(_FORMULA) and not _NUMBER.fullmatch(text)
    return f"'{text}" if is_formula else text


def to_latex(table: Table, caption: str, label: str) -> str:
    """A ``table`` for booktabs; intervals stand beside their numbers."""
    columns = "l" * table.words + "r" * (len(table.columns) - table.words)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(caption)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _row(escape(name) for name in table.columns),
        r"\midrule",
        *(_row(_cell(cell) for cell in row) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _row(texts: Iterable[str]) -> str:
    return " & ".join(texts) + r" \\"


def _cell(cell: Cell) -> str:
    text = escape(f"{cell.text} {cell.detail}".strip())
    return rf"\textbf{{{text}}}" if cell.tone in ("better", "chosen") else text


def escape(text: str) -> str:
    """``text`` without a character that LaTeX would take as its own."""
    return "".join(_TEX.get(character, character) for character in text)
