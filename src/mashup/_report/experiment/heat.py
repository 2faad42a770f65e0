"""A donor × target matrix as a heat map: numbers in coloured fields, the chosen framed."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.patches import Rectangle

from mashup._report import numbers
from mashup._report.experiment.donors import Grid
from mashup._report.panels import quiet
from mashup._report.ranking_panel import drawable, short
from mashup._report.style import Theme

_BRIGHT = 0.45  # luminance from which dark ink reads better


def draw_heat(axes: Any, grid: Grid, title: str, unit: float, theme: Theme) -> None:
    """Blue is better than nothing, orange worse, paper is zero.

    Args:
        axes: to draw into.
        grid: the matrix.
        title: of the diagram.
        unit: factor on the values.
        theme: of the page.
    """
    quiet(axes, theme)
    axes.spines["bottom"].set_visible(False)
    values = _array(grid, unit)
    largest = float(np.nanmax(np.abs(values))) or 1.0
    colours = LinearSegmentedColormap.from_list(
        "mashup", [theme.colour("best-single"), theme.paper, theme.colour("mashup")]
    )
    norm = Normalize(-largest, largest)
    axes.pcolormesh(np.ma.masked_invalid(values), cmap=colours, norm=norm, edgecolor=theme.paper)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            _number(axes, row, column, value, to_rgb(colours(norm(value))), unit)
            if (grid.donors[row], grid.targets[column]) in grid.chosen:
                frame = Rectangle((column, row), 1, 1, fill=False, edgecolor=theme.ink, linewidth=2)
                axes.add_patch(frame)
    _label(axes, grid, title, theme)


def _array(grid: Grid, unit: float) -> Any:
    nothing = float("nan")
    return unit * np.array(
        [[grid.values.get((d, t), nothing) for t in grid.targets] for d in grid.donors]
    )


def _number(axes: Any, row: int, column: int, value: float, colour: Any, unit: float) -> None:
    ink = "#1c2024" if np.dot(colour, (0.2126, 0.7152, 0.0722)) > _BRIGHT else "#ffffff"
    text = numbers.signed(value, 1 if unit != 1 or abs(value) >= 10 else 2)
    axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=8, color=ink)


def _label(axes: Any, grid: Grid, title: str, theme: Theme) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=theme.ink, fontweight="bold")
    axes.set_xlabel("target", fontsize=10, color=theme.muted)
    axes.set_ylabel("donor", fontsize=10, color=theme.muted)
    axes.set_ylim(len(grid.donors), 0)
    places = np.arange(len(grid.targets)) + 0.5
    names = [drawable(short(name)) for name in grid.targets]
    axes.set_xticks(places, names, rotation=40, ha="right", rotation_mode="anchor")
    donors = [drawable(short(name)) for name in grid.donors]
    axes.set_yticks(np.arange(len(donors)) + 0.5, donors)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set(parse_math=False, fontsize=9, color=theme.ink)
