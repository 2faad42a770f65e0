"""Newton weights of a merge: those of the lowest predicted loss around its uniform weights.

A loss is not linear along a checkpoint: it cannot fall below zero, and it bends where an answer
becomes likely. The log-odds ``m = log(P/(1 - P))`` of an example's whole answer, with
``P = exp(-loss)``, are nearly linear. With all other answers as one, ``d loss = -(1 - P)·dm``, so
slopes of the loss give slopes of ``m``, and ``loss = log(1 + exp(-m))`` gives the loss back:
logistic regression with checkpoints as features, fitted by Newton's method with weights of at least
0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mashup._score.slopes import mean_of, moved, slopes_at, weighted_sum
from mashup.checkpoint import Adapter, read_adapter, read_adapter_config, read_checkpoint
from mashup.delta import read_delta
from mashup.evaluate.batches import Batch
from mashup.evaluate.evaluate import evaluate
from mashup.model import Base
from mashup.progress import SILENT, Progress

Array = NDArray[np.float64]

RIDGE = 0.1  # of the mean curvature
SHARES = (0.25, 0.5, 1.0)  # of the way from uniform weights to the best predicted ones
_SURE = 1e-6  # the least 1 - P: rounding of the loss beyond it
_ROUNDS, _HALVINGS, _CLOSE = 50, 20, 1e-8  # of the damped Newton steps
_LEAST = 1e-12  # of the pull: keeps the curvature invertible where nothing changes the loss
_SWEEPS, _STEADY = 1000, 1e-10  # of Gauss-Seidel


def newton_weights(
    base: Base,
    folders: Sequence[Path],
    batches: Sequence[Batch],
    *,
    search: bool = True,
    progress: Progress = SILENT,
) -> tuple[float, ...]:
    """Weights, each at least 0, of the lowest predicted loss around the uniform linear merge.

    The loss is predicted from one forward and backward pass at the uniform merge (:class:`Odds`)
    and minimised by Newton's method. The prediction gets worse with the distance. So with
    ``search`` the loss of the merge is measured at a quarter, half and the whole of the way, and
    the best of these and of the uniform merge is taken: on the sample the result is never worse
    than uniform weights.

    Args:
        base: the loaded base.
        folders: LoRA folders for which :func:`uncovered` is None; all are in memory at once.
        batches: of the sample.
        search: whether to measure; else the whole step is taken.
        progress: where to show a bar.

    Raises:
        InputError: unreadable, or a module that the base does not have.
    """
    deltas = [read_delta(folder) for folder in folders]
    uniform = np.full(len(folders), 1 / len(folders))
    slopes = slopes_at(base.model, batches, deltas, point=mean_of(folders), progress=progress)
    losses = slopes.losses
    odds = Odds.of(losses.sums, slopes.each, int(losses.tokens.sum()))
    step = best_weights(odds, uniform, RIDGE) - uniform

    def measured(share: float) -> float:
        point = weighted_sum(folders, list(uniform + share * step))
        with moved(base.model, point):
            return evaluate(base.model, batches).loss

    share = _best_share(measured, losses.mean) if search else 1.0
    return tuple(map(float, uniform + share * step))


def _best_share(measured: Callable[[float], float], uniform: float) -> float:
    """The share of the lowest measured loss; 0 where none is below that of uniform weights."""
    tried = {0.0: uniform} | {share: measured(share) for share in SHARES}
    return min(tried, key=tried.__getitem__)


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


def gain(g: Array, H: Array, w: Array) -> float:
    """What the model says that a step changes in the loss: negative is better."""
    return float(g @ w + w @ H @ w / 2)


def newton_step(g: Array, H: Array) -> Array:
    """The ``w >= 0`` that minimises the model, ``(N,)``; ``-H⁻¹g`` where that is positive.

    One coordinate after the other (Gauss-Seidel with clipping), which converges to the minimum
    for a positive definite ``H``.
    """
    w = np.zeros(len(g))
    for _ in range(_SWEEPS):
        before = w.copy()
        for i in range(len(g)):
            w[i] = max(0.0, w[i] - (g[i] + H[i] @ w) / H[i, i])
        if np.abs(w - before).max(initial=0) <= _STEADY * np.abs(w).max(initial=0):
            break
    return w


def uncovered(folder: Path) -> str | None:
    """Why Newton weights cannot be found for a checkpoint, None when they can; from headers alone.

    Covered is LoRA on linear layers, GPT-2's Conv1D and embeddings. New values and token rows
    may lie far from the base's, stacked experts have no output of their own, and a bias of B is
    rare: such donors need a true evaluation.

    Raises:
        InputError: unreadable.
    """
    if read_checkpoint(folder).kind == "full":
        return "a full checkpoint"
    return _reason(read_adapter(folder, read_adapter_config(folder)))


def _reason(adapter: Adapter) -> str | None:
    if adapter.saved or adapter.originals:
        return "modules saved whole"
    if adapter.rows:
        return "trained token rows"
    if adapter.biases:
        return "a bias of B"
    if any(module.kind == "parameter" for module in adapter.modules.values()):
        return "parameters adapted themselves"
    return None
