"""The report as Markdown: for the terminal, issues and pull requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mashup._report.facts import make_facts
from mashup._report.ladder import ladder_sentences
from mashup._report.ranking import Ranking
from mashup._report.summary import Summary
from mashup._report.tables import (
    Cell,
    Table,
    arms_table,
    costs_table,
    ladder_table,
    left_out_table,
    ranking_table,
)
from mashup._report.verdict import make_verdict

_NARROWEST = 3  # characters of a column, for a rule that Markdown takes as one


def markdown(summary: Summary) -> str:
    """The whole of ``table.md``."""
    return "\n\n".join(part for part in _parts(summary) if part) + "\n"


def _parts(summary: Summary) -> Iterator[str]:
    verdict = make_verdict(summary)
    yield f"**{escape(capital(verdict.sentence))}**"
    yield escape(" ".join(verdict.notes))
    yield render_table(arms_table(summary))
    yield (
        "Parity: the arm's / scratch's, at the first evaluation that reaches scratch's final dev "
        "loss; overhead charged."
    )
    yield "## Costs in seconds"
    yield render_table(costs_table(summary))
    yield "## Curves"
    yield "![Loss and accuracy of each arm over steps and seconds](curves.png)"
    yield from _ranking(summary.ranking)
    if summary.ladder:
        yield "## Budget ladder"
        yield render_table(ladder_table(summary))
        yield escape(" ".join(ladder_sentences(summary)))
    yield "## How this was measured"
    yield "\n".join(f"- {word}: {escape(text)}." for word, text in make_facts(summary))
    if summary.about.get("left_out"):
        yield "## Left out"
        yield render_table(left_out_table(summary))


def _ranking(ranking: Ranking) -> Iterator[str]:
    yield "## Checkpoints on the sample"
    yield render_table(ranking_table(ranking, (*ranking.open, ranking.base)))
    if ranking.folded:
        yield f"And {len(ranking.folded)} more, in `scores.json`."
    yield f"Differences in {ranking.unit}, ± one paired standard error; less is better."
    yield "![Difference of each checkpoint to the base](scores.png)"


def render_table(table: Table) -> str:
    """A pipe table whose columns line up in a terminal."""
    columns, words = list(table.columns), table.words
    rows = [[_text(cell) for cell in row] for row in table.rows]
    if table.second:
        columns.insert(1, table.second)
        words += 1
        for cells, row in zip(rows, table.rows, strict=True):
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


def _text(cell: Cell) -> str:
    detail = f"({cell.detail})" if cell.detail and cell.detail[0] != "[" else cell.detail
    text = escape(f"{cell.text} {detail}".strip())
    return f"**{text}**" if cell.tone == "chosen" and cell.value is not None else text


def capital(text: str) -> str:
    """``text`` with a large first letter, the rest as it is."""
    return text[:1].upper() + text[1:]


def escape(text: str) -> str:
    """Nothing in ``text`` starts a cell, a line or a tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
