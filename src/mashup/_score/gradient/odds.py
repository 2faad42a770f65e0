"""Losses predicted from slopes: the log-odds of each answer are linear along donors.

A loss is not linear over the length of a donor: it cannot fall below zero, and it bends where an
answer becomes likely. The log-odds ``m = log(P/(1 - P))`` of an example's whole answer, with
``P = exp(-loss)``, have neither end nor bend in a linear model of the logits. With all other
answers as one, ``d loss = -(1 - P)·dm``, so slopes of the loss give slopes of ``m``, and
``loss = log(1 + exp(-m))`` gives the loss back: logistic regression with donors as features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mashup._score.gradient.newton import newton_step

Array = NDArray[np.float64]

_SURE = 1e-6  # the least 1 - P: rounding of the loss beyond it
_ROUNDS = 50
_HALVINGS = 20
_CLOSE = 1e-8
_LEAST = 1e-12  # of the pull: it keeps the curvature invertible where no donor changes anything


@dataclass(frozen=True)
class Odds:
    """Log-odds of the answers as a linear function of steps ``v (N,)`` along donors.

    Attributes:
        start: ``(n,)`` log-odds at the point.
        along: ``(n, N)`` their slopes.
        tokens: of all answers; losses are in nats per answer token.
    """

    start: Array
    along: Array
    tokens: int

    @classmethod
    def of(cls, losses: Array, slopes: Array, tokens: int) -> Odds:
        """From summed losses ``(n,)`` and their slopes ``(n, N)`` at a point."""
        wrong = np.maximum(-np.expm1(-losses), _SURE)
        return cls(-losses - np.log(wrong), -slopes / wrong[:, None], tokens)

    def loss(self, steps: Array) -> Array:
        """Predicted loss after ``steps (N,)``, or after each column of ``(N, k)``."""
        odds = self.start + (self.along @ steps).T
        return np.logaddexp(0, -odds).sum(-1) / self.tokens

    def quadratic(self, step: Array) -> tuple[Array, Array]:
        """Slope ``(N,)`` and curvature ``(N, N)`` of the predicted loss at a step."""
        wrong = 1 / (1 + np.exp(np.clip(self.start + self.along @ step, -500, 500)))
        curved = self.along * (wrong * (1 - wrong))[:, None]
        return -wrong @ self.along / self.tokens, self.along.T @ curved / self.tokens


def best_weights(odds: Odds, at: Array, ridge: float) -> Array:
    """Weights ``w >= 0`` of the lowest predicted loss, ``(N,)``: damped Newton steps from ``at``.

    ``ridge`` punishes ``|w - at|²``, in units of the mean curvature at ``at``: donors of one run
    are nearly parallel, and far from the point the model is wrong.
    """
    _, curvature = odds.quadratic(np.zeros(len(at)))
    pull = max(ridge * np.diag(curvature).mean(), _LEAST)

    def value(w: Array) -> float:
        return float(odds.loss(w - at)) + pull * float((w - at) @ (w - at)) / 2

    w = at
    for _ in range(_ROUNDS):
        slope, curvature = odds.quadratic(w - at)
        slope, curvature = slope + pull * (w - at), curvature + pull * np.eye(len(at))
        step = newton_step(slope - curvature @ w, curvature) - w
        after = _damped(value, w, step)
        if np.abs(after - w).max() <= _CLOSE:
            break
        w = after
    return w


def _damped(value: Callable[[Array], float], w: Array, step: Array) -> Array:
    """The longest of halved steps that lowers ``value``; ``w`` itself when none does."""
    shares = (0.5**n for n in range(_HALVINGS))
    return next((w + s * step for s in shares if value(w + s * step) < value(w)), w)
