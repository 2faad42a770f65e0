"""Where runs end over the learning rate, and over the budget of steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial, reduce
from operator import or_
from statistics import fmean
from typing import Any

from matplotlib.ticker import NullLocator, StrMethodFormatter

from mashup._report.experiment.savings import ends_of, rung_of
from mashup._report.experiment.summary import Study
from mashup._report.panels import frame
from mashup._report.style import Theme, dash, marker

Point = tuple[float, float]


def rates_of(study: Study, arm: str) -> list[float]:
    """Learning rates that an arm ran with on all its targets and seeds; empty for less than two.

    Means over other targets are not comparable. An arm without a grid of its own (scratch-longer)
    has no such rates, and a rate at which a run diverged is none.
    """
    runs: dict[float, Counter[tuple[str, int]]] = {}
    for target in study.targets:
        for end in target.ends:
            if end.arm == arm:
                known = end.dev_loss is not None
                runs.setdefault(end.rate, Counter())[target.task, end.seed] += known
    everything = reduce(or_, runs.values(), Counter[tuple[str, int]]())
    rates = sorted(rate for rate, found in runs.items() if +found == everything)
    return rates if len(rates) > 1 else []


def draw_rates(axes: Sequence[Any], study: Study, theme: Theme) -> None:
    """Dev loss and test accuracy over the rate, where all runs of an arm have it."""
    rates = sorted({rate for arm in study.arms for rate in rates_of(study, arm)})
    for one, name, title in zip(axes, ("dev_loss", "test_accuracy"), _TITLES, strict=True):
        frame(one, title, "learning rate", theme)
        _draw(one, study, theme, partial(_ends, study, name))
        one.set_xscale("log")
        one.set_xticks(rates, [f"{rate:g}" for rate in rates])
        one.xaxis.set_minor_locator(NullLocator())


_TITLES = ("Dev loss", "Test accuracy, %")


def _ends(study: Study, name: str, arm: str) -> list[Point]:
    rates = rates_of(study, arm)
    found = {rate: [getattr(end, name) for end in ends_of(study, arm, rate)] for rate in rates}
    unit = 100.0 if name == "test_accuracy" else 1.0
    return [(rate, unit * fmean(values)) for rate, values in found.items()]


def draw_ladder(axes: Sequence[Any], study: Study, theme: Theme) -> None:
    """Dev loss and test accuracy over the share of the steps."""
    for one, name, title in zip(axes, ("dev_loss", "accuracy"), _TITLES, strict=True):
        frame(one, title, "share of the steps, %", theme)
        _draw(one, study, theme, partial(_rungs, study, name))
        one.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _rungs(study: Study, name: str, arm: str) -> list[Point]:
    budgets = sorted({r.budget for target in study.targets for r in target.ladder if r.arm == arm})
    unit = 100.0 if name == "accuracy" else 1.0
    points = []
    for budget in budgets:
        rungs = [rung for t in study.targets if (rung := rung_of(t, arm, budget))]
        points.append((100 * budget, unit * fmean(getattr(rung, name) for rung in rungs)))
    return points


def _draw(axes: Any, study: Study, theme: Theme, line: Callable[[str], list[Point]]) -> None:
    for place, arm in enumerate(study.arms):
        if points := line(arm):
            x, y = zip(*points, strict=True)
            axes.plot(
                x, y, color=theme.colour(arm, place), marker=marker(arm, place), markersize=5,
                linewidth=1.8, linestyle=dash(arm, place), markeredgewidth=0,
            )  # fmt: skip
