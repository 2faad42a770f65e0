"""The ranking as a picture: difference to the base, with two standard errors either way."""

from __future__ import annotations

import functools
from typing import Any

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator

from mashup.report.panels import quiet
from mashup.report.ranking import Ranking
from mashup.report.style import Theme

_LONGEST = 32  # characters of a name


def ranking_height(ranking: Ranking) -> float:
    """Inches that the rows need."""
    return 1.3 + 0.3 * max(len(ranking.first), 2)


def draw_ranking(axes: Any, ranking: Ranking, theme: Theme) -> None:
    """Best on top; filled and coloured when chosen; the zero line is the base."""
    quiet(axes, theme)
    axes.grid(axis="x", color=theme.grid, linewidth=0.8)
    axes.axvline(0, color=theme.ink, linewidth=1.2, zorder=1)
    rows = ranking.first
    for place, row in enumerate(rows):
        colour = theme.colour("mashup") if row.chosen else theme.muted
        axes.errorbar(
            row.difference, place, xerr=2 * row.error if row.error < float("inf") else None,
            fmt="o", color=colour, markersize=7 if row.chosen else 5, linewidth=1.8,
            markerfacecolor=colour if row.chosen else theme.paper, zorder=3,
        )  # fmt: skip
    _label(axes, ranking, theme)


def _label(axes: Any, ranking: Ranking, theme: Theme) -> None:
    rows = ranking.first
    axes.set_yticks(range(len(rows)), [drawable(short(row.name)) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.8)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set(parse_math=False, color=theme.ink if row.chosen else theme.muted)
        label.set_fontweight("bold" if row.chosen else "normal")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(
        f"{ranking.criterion_word} against the base ({ranking.unit}), ± 2 standard errors",
        fontsize=10,
        color=theme.muted,
    )
    title = "Better than the base to the left of the line; chosen in bold"
    if not rows:
        title = "No checkpoint was scored"
    if ranking.rest:
        title = f"The best {len(rows)} of {len(ranking.rows)}; {title[0].lower()}{title[1:]}"
    axes.set_title(title, loc="left", fontsize=10.5, color=theme.ink, x=0)


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
