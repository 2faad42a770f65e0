"""Results in Python: a few lines of text, a table in a notebook, a data frame."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from mashup.errors import printable

Rows = Sequence[Mapping[str, Any]]
_TEXT_ROWS = 10
_HTML_ROWS = 30
_WIDEST = 32  # characters of a cell


class Shown:
    """A value that shows itself as a title and a table: as text, and as HTML in a notebook.

    A dataclass that takes it says ``repr=False``.
    """

    @property
    def _title(self) -> str:
        raise NotImplementedError

    def _shown(self) -> Rows:
        raise NotImplementedError

    def __repr__(self) -> str:
        return as_text(self._title, self._shown())

    def _repr_html_(self) -> str:
        return as_html(self._title, self._shown())


def as_text(title: str, rows: Rows) -> str:
    """``title`` and the first ten rows."""
    columns = list(rows[0]) if rows else []
    cells = [columns, *([_cell(row[name]) for name in columns] for row in rows[:_TEXT_ROWS])]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = (zip(line, widths, strict=True) for line in cells)
    lines = ["  ".join(text.ljust(width) for text, width in line).rstrip() for line in padded]
    rest = [f"... and {len(rows) - _TEXT_ROWS} more"] if len(rows) > _TEXT_ROWS else []
    return "\n".join([printable(title), *(lines if rows else []), *rest])


def as_html(title: str, rows: Rows) -> str:
    """``title`` and the first 30 rows, as an HTML table."""
    columns = list(rows[0]) if rows else []
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(_cell(row[name]))}</td>' for name in columns)}</tr>"
        for row in rows[:_HTML_ROWS]
    )
    rest = f"<p>... and {len(rows) - _HTML_ROWS} more</p>" if len(rows) > _HTML_ROWS else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if rows else ""
    return f"<p>{html.escape(printable(title))}</p>{table}{rest}"


def as_frame(rows: Rows) -> Any:
    """The rows as a pandas ``DataFrame``."""
    import pandas

    return pandas.DataFrame([dict(row) for row in rows])


def _cell(value: Any) -> str:
    """One value, in at most 32 characters."""
    if value is None:
        return ""
    text = printable(f"{value:.4g}" if isinstance(value, float) else str(value))
    text = " ".join(text.split())
    return text if len(text) <= _WIDEST else f"...{text[3 - _WIDEST :]}"
