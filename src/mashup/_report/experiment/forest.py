"""Gains with their intervals against the zero line: a line a target, an arm or an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.lines import Line2D

from mashup._report.experiment.summary import Study
from mashup._report.figures import add_legend
from mashup._report.panels import quiet
from mashup._report.ranking_panel import drawable, short
from mashup._report.style import Theme, marker
from mashup._report.summary import MASHUP, SCRATCH
from mashup.results.statistics import Difference

_APART = 0.8  # of a line's height, for all arms together
_BESIDE = 6  # arms that a line has room for


@dataclass(frozen=True)
class Line:
    """One line: gains of test accuracy by arm."""

    name: str
    gains: dict[str, Difference]
    is_mean: bool = False


def gain_lines(study: Study) -> tuple[Line, ...]:
    """Every target, then the mean over targets; that mean arm by arm where there are many arms."""
    means = {c.arm: c.gain for c in study.contrasts if c.other == SCRATCH}
    if len(means) > _BESIDE:
        return tuple(Line(arm, {arm: gain}) for arm, gain in means.items())
    lines = [
        Line(t.task, {arm.name: arm.accuracy_gain for arm in t.arms if arm.accuracy_gain})
        for t in study.targets
    ]
    if len(lines) > 1:
        lines.append(Line("mean over targets", means, is_mean=True))
    return tuple(lines)


def study_lines(studies: Sequence[Study]) -> tuple[Line, ...]:
    """Mashup in every experiment."""
    known = ((study.name, study.contrast(MASHUP)) for study in studies)
    return tuple(Line(name, {MASHUP: one.gain} if one else {}) for name, one in known)


def is_by_arm(lines: Sequence[Line]) -> bool:
    """Whether each line is an arm of its own, so that there is nothing to tell apart."""
    return all(set(line.gains) == {line.name} for line in lines)


def _beside(lines: Sequence[Line]) -> list[str]:
    """Arms that share a line, mashup first."""
    names = dict.fromkeys(arm for line in lines for arm in line.gains)
    return [] if is_by_arm(lines) else sorted(names, key=lambda name: name != MASHUP)


def forest_height(lines: Sequence[Line]) -> float:
    """Inches that the lines need."""
    return 1.5 + len(lines) * max(0.3, 0.13 * len(_beside(lines)))


def draw_forest(axes: Any, lines: Sequence[Line], theme: Theme) -> None:
    """One mark an arm and line; the interval is a bar through it."""
    quiet(axes, theme)
    axes.grid(axis="x", color=theme.grid, linewidth=0.8)
    axes.axvline(0, color=theme.ink, linewidth=1.2, zorder=1)
    arms = _beside(lines)
    for place, line in enumerate(lines):
        if line.is_mean:
            axes.axhline(place - 0.5, color=theme.muted, linewidth=0.8)
        shown = arms or [line.name]
        for n, arm in enumerate(shown):
            if arm in line.gains:
                _mark(axes, line.gains[arm], place + _offset(n, len(shown)), arm, n, theme)
    axes.set_yticks(range(len(lines)), [drawable(short(line.name)) for line in lines])
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlabel("points of test accuracy over scratch", fontsize=10, color=theme.muted)
    for label in axes.get_yticklabels():
        label.set(parse_math=False, color=theme.ink)
    if arms:
        add_legend(axes.figure, [_key(arm, n, theme) for n, arm in enumerate(arms)], theme)


def _offset(n: int, count: int) -> float:
    return _APART * ((n + 0.5) / count - 0.5)


def _mark(axes: Any, gain: Difference, y: float, arm: str, place: int, theme: Theme) -> None:
    colour = theme.colour(arm, place)
    axes.plot([100 * gain.low, 100 * gain.high], [y, y], color=colour, linewidth=1.5, zorder=2)
    axes.plot(
        [100 * gain.value], [y], marker(arm, place), color=colour,
        markersize=7 if arm == MASHUP else 5, markeredgewidth=0, zorder=3,
    )  # fmt: skip


def _key(arm: str, place: int, theme: Theme) -> Line2D:
    return Line2D(
        [], [], color=theme.colour(arm, place), marker=marker(arm, place), label=arm,
        linewidth=1.5, markersize=6, markeredgewidth=0,
    )  # fmt: skip
