"""Seconds of every arm, stacked by what they went to."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from mashup._report import numbers
from mashup._report.experiment.summary import Study
from mashup._report.figures import add_legend
from mashup._report.panels import quiet
from mashup._report.style import Theme
from mashup._report.summary import COSTS

_WORDS = {"score": "scoring", "merge": "merging", "search": "rate search", "train": "training"}
_ARM_OF = {"score": "best-single", "merge": "merged-untrained", "search": "average-all",
           "train": "mashup"}  # fmt: skip


def draw_costs(figure: Any, study: Study, theme: Theme) -> None:
    """Horizontal bars, the total at their end; colours are of costs here, not of arms."""
    axes = figure.subplots()
    quiet(axes, theme)
    axes.grid(axis="x", color=theme.grid, linewidth=0.8)
    for place, arm in enumerate(study.arms):
        left = 0.0
        for cost in COSTS:
            width = fmean(row.costs[cost] for row in study.rows(arm))
            axes.barh(place, width, 0.62, left=left, color=theme.colour(_ARM_OF[cost]))
            left += width
        axes.annotate(
            f" {numbers.seconds(left)}", (left, place), va="center", fontsize=9, color=theme.ink
        )
    axes.set_yticks(range(len(study.arms)), study.arms)
    axes.set_ylim(len(study.arms) - 0.4, -0.6)
    axes.margins(x=0.1)
    axes.set_xlabel("seconds, mean over targets and seeds", fontsize=10, color=theme.muted)
    add_legend(figure, [_patch(cost, theme) for cost in COSTS], theme)


def _patch(cost: str, theme: Theme) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=theme.colour(_ARM_OF[cost]), label=_WORDS[cost])
