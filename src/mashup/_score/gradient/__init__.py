"""Slopes of the loss along donors: any number of them for one backward pass of the sample."""

from mashup._score.gradient.coverage import module_names, uncovered
from mashup._score.gradient.directional import Gradient, directional, gradient_at, norm
from mashup._score.gradient.examples import Slopes, slopes_at
from mashup._score.gradient.newton import greedy_subset, newton_step, single_gains
from mashup._score.gradient.odds import Odds, best_weights
from mashup._score.gradient.point import BASE, Point, mean_of, moved, scaled, weighted_sum
from mashup._score.gradient.weights import newton_weights

__all__ = [
    "BASE",
    "Gradient",
    "Odds",
    "Point",
    "Slopes",
    "best_weights",
    "directional",
    "gradient_at",
    "greedy_subset",
    "mean_of",
    "module_names",
    "moved",
    "newton_step",
    "newton_weights",
    "norm",
    "scaled",
    "single_gains",
    "slopes_at",
    "uncovered",
    "weighted_sum",
]
