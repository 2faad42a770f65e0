"""Form and knowledge: what a model's loss over a finite set of answers is made of.

The loss of the right answer is two things. *Form* is the probability that falls outside the set of
possible answers. A few training steps teach it, whatever the source. *Knowledge* is what is left
inside the set, in bits above the prior of the labels. Only knowledge makes a source a relative.

Knowledge is V-usable information (Ethayarajh et al., arXiv 2110.08420) of the model's answer for
the label, where the family V is a calibration of the model: one bias an answer and one temperature
that is not negative (calibration: Zhao et al., arXiv 2102.09690). So a source with a prior of its
own loses nothing, and a source with swapped labels has no knowledge: no temperature >= 0 turns it
around. A small share of every prediction is the prior's, so that one confident mistake does not
decide. The calibration and the prior are both fitted on the other folds of the sample
(cross-fitting), so that neither has seen the example that it is judged on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from mashup.results.statistics import paired_error

Floats = NDArray[np.float64]
Labels = NDArray[np.intp]

#: Folds of the cross-fitting; leave-one-out where there are fewer examples.
FOLDS = 10
#: Pseudo-counts that are spread over all answers, in the prior (Perks: 1/|A| each).
PSEUDO = 1.0
#: Share of the prior in every prediction: no example costs more than 4.3 bits. Measured on sources
#: that know a task (96 rows): the bits stay, and their standard error falls by 12 to 37 %.
LAPSE = 0.05
#: Standard deviations of the penalties: of a bias (nats), and of the temperature times the spread
#: of the log-odds (nats). Wide enough to cost a model that knows little.
BIAS_SD, SLOPE_SD = 1.0, 3.0
#: Newton's method stops where the objective (nats, summed over the sample) can fall by no more.
_TOLERANCE, _MOST_STEPS = 1e-12, 100


@dataclass(frozen=True)
class Knowledge:
    """Form and knowledge of one model on one sample, for each example.

    Attributes:
        form: ``(n,)`` bits lost on answers outside the set, at least 0.
        gained: ``(n,)`` bits above the label prior, within the set, calibrated.
        prompts: ``(n,)`` which prompt each example has; None where all are different.
    """

    form: Floats
    gained: Floats
    prompts: NDArray[np.int64] | None = None

    @property
    def form_bits(self) -> float:
        """Mean bits lost on the form."""
        return float(self.form.mean())

    @property
    def bits(self) -> float:
        """Mean bits above the label prior."""
        return float(self.gained.mean())

    @property
    def error(self) -> float:
        """Standard error of :attr:`bits`; examples of one prompt count as one."""
        return paired_error(self.gained, np.ones(len(self.gained)), self.prompts)[1]


def knowledge(
    log_probabilities: Floats,
    labels: Labels,
    prompts: NDArray[np.int64] | None = None,
    *,
    folds: int = FOLDS,
) -> Knowledge:
    """Form and knowledge from the log-probabilities of all answers.

    Args:
        log_probabilities: ``(n, answers)`` natural log of the probability of each answer.
        labels: ``(n,)`` which answer is right.
        prompts: ``(n,)`` which prompt each example has, for the standard error.
        folds: how many parts the sample is cut into.

    Raises:
        ValueError: a log-probability that is no number, or fewer than two examples or answers.
    """
    count, answers = log_probabilities.shape
    if count < 2 or answers < 2:
        raise ValueError(f"{count} examples and {answers} answers; two of each are needed")
    if not np.isfinite(log_probabilities).all():
        raise ValueError("a log-probability that is not finite")
    mass = logsumexp(log_probabilities, axis=1)
    inside = log_probabilities - mass[:, None]
    parts = folds_of(labels, folds)
    fold_of = np.empty(count, dtype=np.intp)
    for fold, held in enumerate(parts):
        fold_of[held] = fold
    fitted = calibrate(inside, labels, fold_of != np.arange(len(parts))[:, None])
    logs = fitted(inside)[fold_of, np.arange(count), labels]
    ratio = np.exp(logs - fitted.prior[fold_of, labels])
    gained = np.log((1 - LAPSE) * ratio + LAPSE)
    return Knowledge(np.maximum(0.0, -mass) / np.log(2), gained / np.log(2), prompts)


def folds_of(labels: Labels, folds: int) -> list[NDArray[np.intp]]:
    """Disjoint parts of the examples, each with about the same share of every answer.

    Examples are dealt out in the order of their answers, so no seed is needed.
    """
    order = np.argsort(labels, kind="stable")
    parts = min(folds, len(labels))
    return [np.sort(order[start::parts]) for start in range(parts)]


@dataclass(frozen=True)
class Calibration:
    """``log_softmax(prior + shift + slope * (inside - centre))``, one for each of some fits.

    Attributes:
        slope: ``(fits,)`` at least 0.
        shift: ``(fits, answers)`` biases.
        prior: ``(fits, answers)`` log shares of the answers, with pseudo-counts: none is
            impossible.
        centre: ``(fits, answers)`` means of ``inside``.
    """

    slope: Floats
    shift: Floats
    prior: Floats
    centre: Floats

    def __call__(self, inside: Floats) -> Floats:
        """``(fits, n, answers)`` of ``inside (n, answers)``."""
        turned = self.slope[:, None, None] * (inside - self.centre[:, None])
        return log_softmax((self.prior + self.shift)[:, None] + turned, axis=2)


def calibrate(inside: Floats, labels: Labels, seen: NDArray[np.bool_]) -> Calibration:
    """The calibrations of the least penalised cross-entropy, with slopes of at least 0.

    Each is pulled towards the prior, which is slope 0: biases by a normal density around the log
    prior, the slope by one around 0 that is measured in the spread of the log-odds. All fits are
    made at once by Newton's method. The objective is strictly convex, so where the best slope is
    below 0, the best one of at least 0 is 0.

    Args:
        inside: ``(n, answers)`` log-probabilities within the set.
        labels: ``(n,)`` right answers.
        seen: ``(fits, n)`` which examples each fit uses, at least one.
    """
    right = np.eye(inside.shape[1])[labels]
    weight = seen.astype(np.float64)
    counts = weight @ right + PSEUDO / inside.shape[1]
    prior = np.log(counts / counts.sum(1, keepdims=True))
    rows = weight.sum(1)
    centre = weight @ inside / rows[:, None]
    scaled = inside - centre[:, None]
    scaled -= scaled.mean(2, keepdims=True)
    spread = np.sqrt((weight * (scaled**2).mean(2)).sum(1) / rows).clip(1e-6)
    scaled /= spread[:, None, None]
    found = _newton(scaled, right, weight, prior, is_free=True)
    if (below := found[:, 0] < 0).any():
        found[below] = _newton(scaled[below], right, weight[below], prior[below], is_free=False)
    return Calibration(found[:, 0] / spread, found[:, 1:], prior, centre)


def _newton(
    scaled: Floats, right: Floats, weight: Floats, prior: Floats, *, is_free: bool
) -> Floats:
    """``(fits, 1 + answers)`` slope and biases with the least objective, from slope 0.

    Args:
        scaled: ``(fits, n, answers)`` log-odds in units of their spread.
        right: ``(n, answers)`` 1 at the right answer.
        weight: ``(fits, n)`` 1 for the examples that are used.
        prior: ``(fits, answers)``.
        is_free: whether the slope may leave 0.
    """
    fits, _, answers = scaled.shape
    ridge = np.array([SLOPE_SD**-2, *[BIAS_SD**-2] * answers])
    place = np.arange(1, 1 + answers)

    def objective(at: Floats) -> tuple[Floats, Floats]:
        logs = log_softmax((prior + at[:, 1:])[:, None] + at[:, :1, None] * scaled, axis=2)
        loss = -(weight * (logs * right).sum(2)).sum(1)
        return loss + 0.5 * (ridge * at**2).sum(1), logs

    at = np.zeros((fits, 1 + answers))
    loss, logs = objective(at)
    for _ in range(_MOST_STEPS):
        shares = np.exp(logs)
        excess = weight[:, :, None] * (shares - right)
        gradient = ridge * at
        gradient[:, 0] += (excess * scaled).sum((1, 2))
        gradient[:, 1:] += excess.sum(1)
        used = weight[:, :, None] * shares
        mean = (shares * scaled).sum(2)
        curve = np.zeros((fits, 1 + answers, 1 + answers))
        curve[:, 0, 0] = (used * scaled**2).sum((1, 2)) - (weight * mean**2).sum(1)
        curve[:, 0, 1:] = curve[:, 1:, 0] = (used * (scaled - mean[:, :, None])).sum(1)
        curve[:, 1:, 1:] = -used.transpose(0, 2, 1) @ shares
        curve[:, place, place] += used.sum(1)
        curve += np.diag(ridge)
        if not is_free:
            gradient[:, 0], curve[:, 0, 1:], curve[:, 1:, 0] = 0.0, 0.0, 0.0
        step = np.linalg.solve(curve, gradient[:, :, None])[:, :, 0]
        fall = (gradient * step).sum(1)
        if (fall <= _TOLERANCE).all():
            break
        size = np.ones(fits)
        new, logs = objective(at - step)
        slack = _TOLERANCE * (1 + loss)  # of rounding
        while (over := new > loss - 1e-4 * size * fall + slack).any():
            size[over] /= 2
            new, logs = objective(at - size[:, None] * step)
        at, loss = at - size[:, None] * step, new
    return at
