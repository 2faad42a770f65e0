"""The curves of the arms: loss and accuracy over steps, accuracy over seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from mashup._report.material import Measured
from mashup._report.style import Theme, dash, marker
from mashup._report.summary import MASHUP, SCRATCH, Armed, ArmRow
from mashup.results.curve import Point

_WIDE = 4.0  # largest loss by smallest from which a logarithmic scale is better


@dataclass(frozen=True)
class Panel:
    """One diagram.

    Attributes:
        title, x_label: words at the axes.
        value: of a point; None where it was not measured, and no point is drawn.
        over_seconds: over seconds with overhead charged instead of over steps.
    """

    title: str
    x_label: str
    value: Callable[[Point], float | None]
    over_seconds: bool = False
    is_loss: bool = False
    is_dev: bool = False

    @property
    def alt(self) -> str:
        """The diagram in words, for those who cannot see it."""
        return f"{self.title} of each arm over {self.x_label}."

    def line(self, run: Measured) -> tuple[list[float], list[float]]:
        before = run.overhead
        known = [(point, y) for point in run.points if (y := self.value(point)) is not None]
        x = [before + p.seconds if self.over_seconds else float(p.step) for p, _ in known]
        return x, [y for _, y in known]

    def end(self, runs: Sequence[Measured]) -> float:
        """The mean over runs of their last value."""
        return fmean(self.line(run)[1][-1] for run in runs)


def _accuracy(point: Point) -> float | None:
    return None if point.test_accuracy is None else 100 * point.test_accuracy


PANELS = (
    Panel("Test accuracy, %", "steps", _accuracy),
    Panel("Test accuracy, %", "seconds, overhead charged", _accuracy, over_seconds=True),
    Panel("Dev loss", "steps", lambda point: point.dev_loss, is_loss=True, is_dev=True),
    Panel("Test loss", "steps", lambda point: point.test_loss, is_loss=True),
)


def draw_panel(
    axes: Any, panel: Panel, summary: Armed, theme: Theme, title: str | None = None
) -> None:
    """Draw every arm: thin lines for seeds and a thick one for their mean when several."""
    frame(axes, title or panel.title, panel.x_label, theme)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if panel.is_dev:
        level = fmean(run.last.dev_loss for run in summary.scratch.runs)
        axes.axhline(level, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    if not panel.is_loss and summary.commonest is not None:
        _draw_commonest(axes, 100 * summary.commonest, theme)
    for place, arm in enumerate(summary.arms):
        _draw_arm(axes, panel, arm, place, theme)
    axes.set_xlim(left=0 if panel.over_seconds else None)
    if panel.is_loss:
        _scale(axes)


def _draw_commonest(axes: Any, level: float, theme: Theme) -> None:
    """What never looking at the prompt gets right, said where the line is."""
    axes.axhline(level, color=theme.muted, linewidth=1, linestyle=":", zorder=1)
    axes.annotate(
        "commonest answer", (1, level), xycoords=("axes fraction", "data"), xytext=(0, 2),
        textcoords="offset points", ha="right", fontsize=8.5, color=theme.muted, zorder=1,
    )  # fmt: skip


def _draw_arm(axes: Any, panel: Panel, arm: ArmRow, place: int, theme: Theme) -> None:
    colour, front = theme.colour(arm.name, place), _order(arm)
    lines = [panel.line(run) for run in arm.runs]
    several = len(lines) > 1
    for x, y in lines if several and arm.trained else ():
        axes.plot(x, y, color=colour, linewidth=0.9, alpha=0.45, zorder=front)
    x, y = _mean(lines)
    if panel.over_seconds and arm.trained and x[0] > 0:
        axes.plot([0, x[0]], [y[0], y[0]], ":", color=colour, linewidth=1.4, zorder=front)
    axes.plot(x, y, color=colour, zorder=front + 0.5, clip_on=False, **_mark(arm, place))


def _mark(arm: ArmRow, place: int) -> dict[str, Any]:
    size = 4.5 if arm.trained else 11
    width = 2.4 if arm.name == MASHUP else 1.8
    look = {"marker": marker(arm.name, place), "linestyle": dash(arm.name, place)}
    return look | {"markersize": size, "linewidth": width, "markeredgewidth": 0}


def _order(arm: ArmRow) -> int:
    """Untrained marks in front, then mashup; scratch behind."""
    return 5 if not arm.trained else {SCRATCH: 2, MASHUP: 4}.get(arm.name, 3)


def _mean(lines: Sequence[tuple[list[float], list[float]]]) -> tuple[list[float], list[float]]:
    """Mean over seeds of the points that all have."""
    xs = zip(*(x for x, _ in lines), strict=False)
    ys = zip(*(y for _, y in lines), strict=False)
    return [fmean(values) for values in xs], [fmean(values) for values in ys]


def arm_handles(arms: Sequence[ArmRow], theme: Theme) -> list[Line2D]:
    """Entries of a legend."""
    return [
        Line2D(
            [], [], color=theme.colour(arm.name, place), label=arm.name,
            **_mark(arm, place) | ({} if arm.trained else {"linestyle": ""}),
        )
        for place, arm in enumerate(arms)
    ]  # fmt: skip


def frame(axes: Any, title: str, x_label: str, theme: Theme) -> None:
    """Title, label and quiet lines of a diagram whose values go upwards."""
    quiet(axes, theme)
    axes.grid(axis="y", color=theme.grid, linewidth=0.8)
    axes.set_title(title, loc="left", fontsize=11, color=theme.ink, fontweight="bold")
    axes.set_xlabel(x_label, fontsize=10.5, color=theme.muted)
    axes.yaxis.set_major_locator(MaxNLocator(5))


def quiet(axes: Any, theme: Theme) -> None:
    """No box, no ticks, muted labels."""
    axes.set_facecolor(theme.paper)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.spines["bottom"].set(visible=True, color=theme.muted, linewidth=0.8)
    axes.tick_params(length=0, labelsize=10.5, labelcolor=theme.muted, pad=5)


def _scale(axes: Any) -> None:
    """Logarithmic when a bad start would flatten the rest."""
    values = [y for line in axes.get_lines() for y in line.get_ydata() if y > 0]
    if not values or max(values) / min(values) < _WIDE:
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)
    axes.set_title(f"{axes.get_title(loc='left')}, log scale", loc="left")
