"""Pictures of an experiment: curves of every target, gains, costs, rates, budgets, donors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean

from matplotlib.figure import Figure

from mashup._report import numbers
from mashup._report.experiment.bars import draw_costs
from mashup._report.experiment.donors import relevance_grid, singles_grid
from mashup._report.experiment.drawing import Drawing
from mashup._report.experiment.forest import (
    Line,
    draw_forest,
    forest_height,
    gain_lines,
    is_by_arm,
    study_lines,
)
from mashup._report.experiment.heat import draw_heat
from mashup._report.experiment.lines import draw_ladder, draw_rates, rates_of
from mashup._report.experiment.summary import Study
from mashup._report.experiment.verdicts import contrast_sentence
from mashup._report.figures import add_legend, new_figure
from mashup._report.panels import PANELS, Panel, arm_handles, draw_panel
from mashup._report.style import Theme
from mashup._report.summary import ArmRow

_ACROSS = 3  # diagrams side by side, where every target has one


def drawings(study: Study) -> tuple[Drawing, ...]:
    """All pictures that there are values for."""
    found = [_gains(study)] if study.contrasts else []
    found += [_curves(study, PANELS[0], "accuracy"), _curves(study, PANELS[2], "dev")]
    found += [_costs(study)]
    found += [_rates(study)] if any(rates_of(study, arm) for arm in study.arms) else []
    found += [_ladder(study)] if any(target.ladder for target in study.targets) else []
    found += [_donors(study)] if relevance_grid(study) else []
    return tuple(found)


def models_drawing(studies: Sequence[Study]) -> Drawing:
    """What mashup gains in each experiment."""
    draw = partial(_forest, study_lines(studies), 6.4)
    told = [contrast_sentence(one.subject) for one in studies if one.subject]
    return Drawing("models", "Gain of mashup over scratch by experiment", ". ".join(told), draw)


def _gains(study: Study) -> Drawing:
    lines = gain_lines(study)
    by = "mean over targets" if is_by_arm(lines) else "by target"
    told = f" {contrast_sentence(study.subject)}." if study.subject else ""
    alt = f"Test accuracy of each arm over scratch, {by}, with 95 % intervals.{told}"
    return Drawing("gains", "Gains over scratch", alt, partial(_forest, lines, 7.2))


def _forest(lines: Sequence[Line], width: float, theme: Theme) -> Figure:
    figure = new_figure(width, forest_height(lines), theme)
    draw_forest(figure.subplots(), lines, theme)
    return figure


def _curves(study: Study, panel: Panel, key: str) -> Drawing:
    """One diagram a target, all arms in each."""
    across = min(_ACROSS, len(study.targets))
    down = math.ceil(len(study.targets) / across)

    def draw(theme: Theme) -> Figure:
        figure = new_figure(3.3 * across + 0.4, 2.7 * down + 0.8, theme)
        axes = list(figure.subplots(down, across, squeeze=False).flat)
        for one, target in zip(axes, study.targets, strict=False):
            draw_panel(one, panel, target, theme, title=target.task)
        for one in axes[len(study.targets) :]:
            one.set_visible(False)
        add_legend(figure, arm_handles(study.legend, theme), theme)
        return figure

    first = study.targets[0]
    ends = ", ".join(f"{arm.name} {_end(arm, panel)}" for arm in first.arms)
    alt = (
        f"{panel.title} of every arm over steps, a diagram for each of {len(study.targets)} "
        f"targets. Ends on {first.task}: {ends}."
    )
    return Drawing(f"curves-{key}", f"{panel.title} over steps", alt, draw)


def _end(arm: ArmRow, panel: Panel) -> str:
    value = panel.end(arm.runs)
    return numbers.loss(value) if panel.is_loss else numbers.percent(value / 100)


def _costs(study: Study) -> Drawing:
    def draw(theme: Theme) -> Figure:
        figure = new_figure(7.2, 1.1 + 0.36 * len(study.arms), theme)
        draw_costs(figure, study, theme)
        return figure

    totals = [f"{arm} {numbers.seconds(_mean_seconds(study, arm))}" for arm in study.arms]
    alt = f"Seconds of each arm by scoring, merging, search and training: {', '.join(totals)}."
    return Drawing("costs", "Seconds, everything charged", alt, draw)


def _mean_seconds(study: Study, arm: str) -> float:
    return fmean(row.seconds for row in study.rows(arm))


def _rates(study: Study) -> Drawing:
    alt = (
        "Dev loss and test accuracy at the end of training over the learning rate, mean over "
        "targets and seeds, a line an arm; only rates that an arm ran with on all its targets and "
        "seeds. The table of learning rates has all numbers."
    )
    arms = [row for row in study.legend if rates_of(study, row.name)]
    draw = partial(_pair, study, draw_rates, arms)
    return Drawing("rates", "Sensitivity to the learning rate", alt, draw)


def _ladder(study: Study) -> Drawing:
    alt = (
        "Dev loss and test accuracy of runs with shares of the steps, each with its own schedule, "
        "mean over targets. The table of the ladder has the numbers."
    )
    climbing = {rung.arm for target in study.targets for rung in target.ladder}
    arms = [row for row in study.legend if row.name in climbing]
    return Drawing("ladder", "Budget ladder", alt, partial(_pair, study, draw_ladder, arms))


def _pair(study: Study, draw: Callable[..., None], arms: Sequence[ArmRow], theme: Theme) -> Figure:
    """Two diagrams side by side under the legend of their arms."""
    figure = new_figure(7.2, 3.4, theme)
    draw(figure.subplots(1, 2), study, theme)
    add_legend(figure, arm_handles(arms, theme), theme)
    return figure


def _donors(study: Study) -> Drawing:
    """Relevance, and beside it the gains after training where they were run."""
    grids = [(relevance_grid(study), "Relevance: nats below the base", 1.0)]
    grids += [(singles_grid(study), "Gain after training, points", 100.0)]
    shown = [(grid, title, unit) for grid, title, unit in grids if grid]
    size = max(len(grid.donors) for grid, _, _ in shown)
    wide = max(len(grid.targets) for grid, _, _ in shown)

    def draw(theme: Theme) -> Figure:
        figure = new_figure((1.7 + 0.62 * wide) * len(shown), 1.9 + 0.36 * size, theme)
        axes = figure.subplots(1, len(shown), squeeze=False).flat
        for one, (grid, title, unit) in zip(axes, shown, strict=True):
            draw_heat(one, grid, title, unit, theme)
        return figure

    alt = (
        "Heat map: every donor on the sample of every target, "
        + ("and beside it what training from it gained; " if len(shown) > 1 else "")
        + "framed are the chosen. The tables of donors have the numbers."
    )
    return Drawing("donors", "Donors by target", alt, draw)
