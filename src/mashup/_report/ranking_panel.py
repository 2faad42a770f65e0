"""The ranking as a picture: difference to the base, with two standard errors either way."""

from __future__ import annotations

import functools
from typing import Any

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator

from mashup._report.panels import quiet
from mashup._report.ranking import Ranking
from mashup._report.style import Theme

_LONGEST = 24  # characters of a name


def ranking_height(ranking: Ranking) -> float:
    """Inches that the rows need."""
    return 1.2 + 0.27 * max(len(ranking.pictured), 2)


def draw_ranking(axes: Any, ranking: Ranking, theme: Theme) -> None:
    """Best on top; filled and coloured when chosen; the zero line is the base."""
    quiet(axes, theme)
    axes.grid(axis="x", color=theme.grid, linewidth=0.8)
    axes.axvline(0, color=theme.ink, linewidth=1.2, zorder=1)
    rows = ranking.pictured
    for place, row in enumerate(rows):
        colour = theme.colour("mashup") if row.chosen else theme.muted
        axes.errorbar(
            row.difference, place, xerr=2 * row.error if row.error < float("inf") else None,
            fmt="o", color=colour, markersize=7 if row.chosen else 5, linewidth=1.8,
            markerfacecolor=colour if row.chosen else theme.paper, zorder=3,
        )  # fmt: skip
    _label(axes, ranking, theme)


def _label(axes: Any, ranking: Ranking, theme: Theme) -> None:
    rows = ranking.pictured
    axes.set_yticks(range(len(rows)), [drawable(short(row.name)) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.8)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set(parse_math=False, color=theme.ink if row.chosen else theme.muted)
        label.set_fontweight("bold" if row.chosen else "normal")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    words = {"fontsize": 9.5, "x": 0.02, "ha": "left"}
    axes.figure.supxlabel(_axis(ranking), color=theme.muted, **words)
    axes.figure.suptitle(_title(ranking), color=theme.ink, **words)


def _axis(ranking: Ranking) -> str:
    return f"{ranking.criterion_word} minus base, {ranking.unit}, ± 2 standard errors"


def _title(ranking: Ranking) -> str:
    if not ranking.rows:
        return "No checkpoint was scored"
    title = "left of the line: better than the base; bold: chosen"
    return (
        f"{_how_many(ranking)}; {title}"
        if len(ranking.rows) > len(ranking.pictured)
        else title.capitalize()
    )


def _how_many(ranking: Ranking) -> str:
    return f"Best {len(ranking.pictured)} of {len(ranking.rows)}"


def short(name: str) -> str:
    """A long name without its middle."""
    half = _LONGEST // 2
    return name if len(name) <= _LONGEST else f"{name[: half - 1]}…{name[-half:]}"


def drawable(text: str) -> str:
    """``text`` with a box for each character that the picture's font does not have."""
    return "".join(c if ord(c) in _characters() else "□" for c in text)


@functools.cache
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap())
