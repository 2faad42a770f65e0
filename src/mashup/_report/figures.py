"""Pictures of a comparison: curves and ranking, drawn without any global state of matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from mashup._report.panels import PANELS, Panel, arm_handles, draw_panel
from mashup._report.ranking import Ranking
from mashup._report.ranking_panel import draw_ranking, ranking_height
from mashup._report.style import Theme
from mashup._report.summary import Summary

_ROOM = {"w_pad": 0.08, "h_pad": 0.08, "wspace": 0.04, "hspace": 0.06}


def curves_figure(summary: Summary, theme: Theme) -> Figure:
    """All panels and their legend in one picture, for files."""
    figure = new_figure(8.0, 7.2, theme)
    for axes, panel in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        draw_panel(axes, panel, summary, theme)
    add_legend(figure, arm_handles(summary.arms, theme), theme, across=3, size=11)
    return figure


def panel_figure(panel: Panel, summary: Summary, theme: Theme) -> Figure:
    """One panel, for the page, which has a legend of its own."""
    figure = new_figure(4.8, 3.2, theme)
    draw_panel(figure.subplots(), panel, summary, theme)
    return figure


def ranking_figure(ranking: Ranking, theme: Theme) -> Figure:
    """The checkpoints on the sample, against the base."""
    figure = new_figure(5.4, ranking_height(ranking), theme)
    draw_ranking(figure.subplots(), ranking, theme)
    return figure


def laid_out(figure: Figure) -> Figure:
    """The figure with its parts in their places for good, so that they are sought only once."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def render(figure: Figure, kind: str) -> bytes:
    """The bytes of a picture: ``png`` or ``svg``; the same picture gives the same bytes."""
    stream = io.BytesIO()
    about = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "mashup", "svg.fonttype": "path"}):
        figure.savefig(stream, format=kind, dpi=160, metadata=about)
    return stream.getvalue()


def new_figure(width: float, height: float, theme: Theme) -> Figure:
    """An empty picture, inches."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor=theme.paper)
    engine: Any = figure.get_layout_engine()
    engine.set(**_ROOM)
    return figure


def add_legend(
    figure: Any, handles: Sequence[Any], theme: Theme, *, across: int = 4, size: float = 9.5
) -> None:
    """Above the diagrams, without a box, its words in the theme's ink."""
    legend = figure.legend(
        handles=handles, loc="outside upper left", ncols=across, frameon=False, fontsize=size
    )
    for text in legend.get_texts():
        text.set_color(theme.ink)
