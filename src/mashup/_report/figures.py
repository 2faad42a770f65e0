"""The pictures of a report: which values each of them shows, and in which words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from statistics import fmean

from mashup._report import numbers
from mashup._report.canvas import Drawing, below, side_by_side
from mashup._report.plots import (
    Interval,
    Level,
    Look,
    Series,
    bars,
    intervals,
    legend,
    lines,
)
from mashup._report.study import COSTS, MASHUP, SCRATCH, ArmRow, Rung, RunRow, Study, Target
from mashup._report.style import colour_of, dash_of, shape_of
from mashup._report.tables import (
    ends_of,
)
from mashup._report.verdict import contrast_sentence
from mashup.results.curve import Point
from mashup.results.statistics import Difference

RACE = "race"
_MEAN = "mean over targets"
_ACROSS = 3  # diagrams side by side in a file, where every target has one
_ROOM = 6  # arms that one row has room for
_COSTS = {
    "score": ("best-single", "scoring"), "merge": ("untrained", "merging"),
    "search": ("average", "rate search"), "train": ("mashup", "training"),
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """One or several diagrams under one title and legend.

    Attributes:
        key: name of its files.
        title: what it shows.
        drawings: of one size.
        looks: entries of the legend; empty where nothing needs one.
        across: how many drawings stand side by side in a file.
    """

    key: str
    title: str
    drawings: tuple[Drawing, ...]
    looks: tuple[Look, ...] = ()
    across: int = 1

    @property
    def alt(self) -> str:
        """All of it in words."""
        return " ".join(dict.fromkeys(one.alt for one in self.drawings))

    def whole(self) -> Drawing:
        """All of it as one drawing, for files."""
        body = side_by_side(self.drawings, self.across)
        parts = [legend(self.looks, body.width), body] if self.looks else [body]
        return below(parts)


def looks(study: Study, arms: Sequence[str] | None = None) -> dict[str, Look]:
    """How each arm is drawn, everywhere in the report: also one that has short runs only."""
    order = dict.fromkeys([*study.arms, *(arms or ())])
    places = {arm: place for place, arm in enumerate(order)}
    return {
        arm: Look(
            arm, colour_of(arm, places[arm]), shape_of(arm, places[arm]),
            dash_of(arm, places[arm]), study.is_trained(arm),
        )
        for arm in (study.arms if arms is None else arms)
    }  # fmt: skip


# Gains


def gains_figure(study: Study) -> Figure | None:
    """The first picture: gains over scratch of the arms that the verdict is about.

    A row for each target and one for their mean; a row for each arm if there is one target.
    """
    arms = [arm for arm in (study.subject, RACE) if study.contrast(arm)]
    if study.only:
        return _forest(study, "gains", _by_arm(study))
    return _forest(study, "gains", _by_target(study, arms)) if arms else None


def arms_figure(study: Study) -> Figure | None:
    """Gains over scratch of all arms; None where the first picture has them.

    A row for each target; a row for each arm where a row has no room for so many arms.
    """
    arms = list(_by_arm(study))
    if study.only or len(arms) < 2:
        return None
    rows = _by_arm(study) if len(arms) > _ROOM else _by_target(study, arms)
    return _forest(study, "gains-arms", rows)


Rows = dict[str, dict[str, Difference]]


def _by_arm(study: Study) -> Rows:
    means = {c.arm: {c.arm: c.gain} for c in study.contrasts if c.other == SCRATCH}
    return {arm: means[arm] for arm in sorted(means, key=lambda arm: arm != MASHUP)}


def _by_target(study: Study, arms: Sequence[str]) -> Rows:
    """The last row is the mean over targets."""
    rows = {
        target.task: {arm: gain for arm in arms if (gain := target.gain(arm))}
        for target in study.targets
    }
    means = _by_arm(study)
    return rows | {_MEAN: {arm: means[arm][arm] for arm in arms}}


def _forest(study: Study, key: str, rows: Rows) -> Figure | None:
    """None for no rows. No legend is needed where each row is an arm, or all are of one arm."""
    if not rows:
        return None
    known, only = looks(study), study.only
    arms = list(dict.fromkeys(arm for gains in rows.values() for arm in gains))
    where = " by target" if _MEAN in rows else f" on {only.task}" if only else " on average"
    of = arms[0] if len(arms) == 1 else "each arm"
    subject = study.contrast(study.subject)
    lead = f" {numbers.capital(contrast_sentence(subject))}." if subject else ""
    drawing = intervals(
        [(name, [_interval(known[arm], gain, name) for arm, gain in gains.items()])
         for name, gains in rows.items()],
        "points of test accuracy over scratch, with 95 % intervals",
        rule_above=len(rows) - 1 if _MEAN in rows else None,
        alt=f"Test accuracy of {of} over scratch{where}, with 95 % intervals.{lead}",
    )  # fmt: skip
    shown = tuple(known[arm] for arm in arms) if _MEAN in rows and len(arms) > 1 else ()
    return Figure(key, f"Gain of {of} over scratch{where}", (drawing,), shown)


def models_figure(studies: Sequence[Study]) -> Figure:
    """What mashup gains in each of several experiments."""
    look = Look(MASHUP, colour_of(MASHUP, 0), shape_of(MASHUP, 0))
    known = [(study.name, study.contrast(MASHUP)) for study in studies]
    leads = [contrast_sentence(one) for study in studies if (one := study.contrast(study.subject))]
    alt = f"Gain of mashup over scratch by experiment. {'. '.join(leads)}."
    drawing = intervals(
        [(name, [_interval(look, one.gain, name)] if one else []) for name, one in known],
        "points of test accuracy over scratch, with 95 % intervals", alt=alt,
    )  # fmt: skip
    return Figure("models", "Gain of mashup over scratch by experiment", (drawing,))


def _interval(look: Look, gain: Difference, row: str) -> Interval:
    name = look.name if row == look.name else f"{look.name}, {row}"
    title = f"{name}: {numbers.points(gain.value)} points {numbers.interval(gain)}"
    return Interval(look, 100 * gain.value, 100 * gain.low, 100 * gain.high, title)


# Curves


@dataclass(frozen=True)
class Panel:
    """One kind of diagram of curves.

    Attributes:
        key: name of its files.
        title: of the values; ``value`` reads them from a point, None where not measured.
        over_seconds: over seconds with overhead charged instead of over steps.
    """

    key: str
    title: str
    value: Callable[[Point], float | None]
    over_seconds: bool = False
    is_loss: bool = False

    @property
    def x_label(self) -> str:
        return "seconds, overhead charged" if self.over_seconds else "steps"

    def line(self, run: RunRow) -> dict[int, tuple[float, float]]:
        """Step to where its value is drawn."""
        before = run.overhead
        known = [(point, y) for point in run.points if (y := self.value(point)) is not None]
        return {
            point.step: (before + point.seconds if self.over_seconds else float(point.step), y)
            for point, y in known
        }

    def show(self, value: float) -> str:
        return numbers.loss(value) if self.is_loss else f"{value:.1f} %"


def panels(study: Study) -> tuple[Panel, ...]:
    """Accuracy and dev loss over steps and over seconds.

    Accuracy is of the test rows where every evaluation read them, else of the dev rows.
    """
    runs = [run for arm in study.arms for row in study.rows(arm) for run in row.runs]
    on_test = all(point.test_accuracy is not None for run in runs for point in run.points)
    accuracy = _test_accuracy if on_test else _dev_accuracy
    title = "Test accuracy, %" if on_test else "Dev accuracy, %"
    return (
        Panel("curves-accuracy", title, accuracy),
        Panel("curves-accuracy-seconds", title, accuracy, over_seconds=True),
        Panel("curves-dev", "Dev loss", _dev_loss, is_loss=True),
        Panel("curves-dev-seconds", "Dev loss", _dev_loss, over_seconds=True, is_loss=True),
    )


def _test_accuracy(point: Point) -> float | None:
    return None if point.test_accuracy is None else 100 * point.test_accuracy


def _dev_accuracy(point: Point) -> float:
    return 100 * point.dev_accuracy


def _dev_loss(point: Point) -> float:
    return point.dev_loss


def curves_figures(study: Study) -> tuple[Figure, ...]:
    """One figure of four diagrams for one target; else a figure a panel, with every target."""
    known = looks(study)
    shown = tuple(known.values())
    if study.only:
        title = "Accuracy and loss of each arm over steps and seconds"
        made = tuple(curve(panel, study.only, known, panel.title) for panel in panels(study))
        return (Figure("curves", title, made, shown, across=2),)
    return tuple(
        Figure(
            panel.key, f"{panel.title.removesuffix(', %')} over {panel.x_label}",
            tuple(curve(panel, target, known, target.task) for target in study.targets),
            shown, across=min(_ACROSS, len(study.targets)),
        )
        for panel in panels(study)
    )  # fmt: skip


def curve(panel: Panel, target: Target, known: dict[str, Look], title: str) -> Drawing:
    """Every arm on one target: thin lines for runs, and a thick one for their mean."""
    levels = []
    scratch = target.arm(SCRATCH)
    if panel.is_loss and scratch:
        level = fmean(run.last.dev_loss for run in scratch.runs)
        levels += [Level(level, "4 3")]
    if panel.title.startswith("Test accuracy") and target.commonest is not None:
        levels += [Level(100 * target.commonest, "1 1.5", "commonest answer")]
    back_to_front = sorted(target.arms, key=_depth)
    series = [one for arm in back_to_front for one in _series(panel, arm, known[arm.name])]
    drawn = [one for one in series if one.points]
    ends = [f"{one.look.name} {panel.show(one.points[-1][1])}" for one in drawn if not one.thin]
    alt = f"{panel.title} of each arm on {target.task} over {panel.x_label}. Ends: "
    return lines(
        title, panel.x_label, drawn, levels=levels, loss=panel.is_loss,
        alt=f"{alt}{', '.join(ends)}.",
    )  # fmt: skip


def _depth(arm: ArmRow) -> int:
    """Scratch is behind, mashup in front, marks of untrained arms before all."""
    return 5 if not arm.trained else {SCRATCH: 2, MASHUP: 4}.get(arm.name, 3)


def _series(panel: Panel, arm: ArmRow, look: Look) -> list[Series]:
    runs = [(run, line) for run in arm.runs if (line := panel.line(run))]
    made = []
    if len(runs) > 1 and arm.trained:
        for run, line in runs:
            drawn = tuple(line.values())
            title = f"{arm.name}, seed {run.seed}: ends at {panel.show(drawn[-1][1])}"
            made += [Series(look, drawn, thin=True, title=title)]
    mean = _mean_line([line for _, line in runs])
    points = tuple(mean.values())
    titles = tuple(f"{arm.name}, step {step}: {panel.show(y)}" for step, (_, y) in mean.items())
    before = points[0][1] if panel.over_seconds and arm.trained and points else None
    return [*made, Series(look, points, titles, before=before)]


def _mean_line(lines: Sequence[dict[int, tuple[float, float]]]) -> dict[int, tuple[float, float]]:
    """Step to the mean point of several runs.

    Runs that keep their best point end at different steps. A run that has ended holds its value,
    so that the end of the line is the mean of what the runs leave.
    """
    mean: dict[int, tuple[float, float]] = {}
    for step in sorted({step for line in lines for step in line}):
        places = [line[step][0] for line in lines if step in line]
        held = [line[max(known)] for line in lines if (known := [s for s in line if s <= step])]
        before = max((x for x, _ in mean.values()), default=0.0)
        mean[step] = (max(before, fmean(places)), fmean(y for _, y in held))
    return mean


# Costs, learning rates, budgets


def costs_figure(study: Study) -> Figure:
    """Seconds of every arm, stacked by what they were spent on; colours are of costs here."""
    totals = {arm: fmean(row.seconds for row in study.rows(arm)) for arm in study.arms}
    times = ", ".join(f"{arm} {numbers.seconds(total)}" for arm, total in totals.items())
    drawing = bars(
        [(arm, [(*_COSTS[cost], fmean(row.costs[cost] for row in study.rows(arm)))
                for cost in COSTS]) for arm in study.arms],
        "seconds, mean over targets and seeds" if study.only is None else "seconds",
        alt=f"Seconds of each arm by scoring, merging, rate search and training: {times}.",
    )  # fmt: skip
    shown = tuple(Look(word, colour, "square", line=False) for colour, word in _COSTS.values())
    return Figure("costs", "Seconds, everything charged", (drawing,), shown)


Points = dict[str, tuple[tuple[float, float], ...]]


def rates_figure(study: Study) -> Figure | None:
    """Dev loss and test accuracy at the end over the learning rate."""
    rates = {arm: found for arm in study.arms if (found := rates_of(study, arm))}

    def points(name: str, unit: float) -> Points:
        def at(arm: str, rate: float) -> float:
            values = [getattr(end, name) for end in ends_of(study, arm, rate)]
            return math.nan if None in values else unit * fmean(values)

        return {
            arm: tuple((rate, y) for rate in found if math.isfinite(y := at(arm, rate)))
            for arm, found in rates.items()
        }

    if not rates:
        return None
    alt = (
        "Dev loss and test accuracy at the end of training over the learning rate, mean over "
        "targets and seeds, a line per arm; only rates that an arm ran with on all its targets "
        "and seeds. The table of learning rates has all numbers."
    )
    drawings = _pair(
        study, "learning rate", points("dev_loss", 1), points("test_accuracy", 100), alt,
        sorted({rate for found in rates.values() for rate in found}),
    )  # fmt: skip
    shown = tuple(looks(study, list(rates)).values())
    return Figure("rates", "Sensitivity to the learning rate", drawings, shown, across=2)


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


def ladder_figure(study: Study) -> Figure | None:
    """Dev loss and test accuracy at the end over the share of the steps."""
    rungs: dict[str, dict[float, list[Rung]]] = {}
    for rung in (rung for target in study.targets for rung in target.ladder):
        rungs.setdefault(rung.arm, {}).setdefault(rung.budget, []).append(rung)

    def points(name: str, unit: float) -> Points:
        return {
            arm: tuple(
                (100 * budget, unit * fmean(getattr(rung, name) for rung in found))
                for budget, found in sorted(budgets.items())
            )
            for arm, budgets in rungs.items()
        }

    if not rungs:
        return None
    alt = (
        "Dev loss and test accuracy of runs with shares of the steps, each with its own schedule, "
        "mean over targets. The table of the ladder has the numbers."
    )
    drawings = _pair(
        study, "share of the steps, %", points("dev_loss", 1), points("accuracy", 100), alt
    )
    shown = tuple(looks(study, list(rungs)).values())
    return Figure("ladder", "Budget ladder", drawings, shown, across=2)


def _pair(
    study: Study,
    x_label: str,
    losses: Points,
    accuracies: Points,
    alt: str,
    x_values: Sequence[float] = (),
) -> tuple[Drawing, ...]:
    """Two diagrams with a line for each arm."""
    known = looks(study, [*losses, *accuracies])

    def drawing(name: str, points: Points, show: Callable[[float], str]) -> Drawing:
        series = [
            Series(known[arm], found, tuple(f"{arm}, {x:g}: {show(y)}" for x, y in found))
            for arm, found in points.items()
            if found
        ]
        is_loss = points is losses
        return lines(name, x_label, series, loss=is_loss, x_values=x_values, alt=alt)

    return (
        drawing("Dev loss", losses, numbers.loss),
        drawing("Test accuracy, %", accuracies, "{:.1f} %".format),
    )
