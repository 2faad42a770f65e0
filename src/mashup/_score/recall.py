"""The ledger strategy: look at a few checkpoints, infer the others from past tasks, race the best.

A look is a part of the sample. How many looks are needed grows much slower than the library.

The values of past tasks, with missing entries, are modelled by probabilistic principal components
(Tipping and Bishop, 1999): a checkpoint's standardised value on a task is the product of a few
factors of the checkpoint and loadings of the task, plus noise. Missing entries are filled by the
model, and the model is fitted again (Roweis, 1998). A new task is ``offset + scale · (factors @
loadings + noise)``, with a prior for its loadings at those of the usual task; so with nothing
measured the checkpoints rank as on other tasks. It is fitted by ridge regression on the looks.

Inside, higher values are better. A loss becomes ``exp(-loss)``, which a diverged checkpoint cannot
spoil.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mashup._score.candidates import Candidate
from mashup._score.racing import racing
from mashup._score.scorer import Scorer
from mashup._score.scores import Criterion, Outcome
from mashup.progress import Progress

Array = NDArray[np.floating]

LOOK = 32  # examples
LEAST = 16  # checkpoints that are looked at
TASKS = 15  # past tasks below which the ledger says too little
COVERED = 0.5  # share of the checkpoints that a past task must know to count as one
FIRST = 4  # checkpoints that are looked at before anything is predicted
ROUND = 8  # checkpoints that are looked at between predictions
RANK = 3  # of the model
_ROUNDS = 10  # of filling
_WEIGHT = 1  # of the mean noise next to a checkpoint's own, counted in entries
_RIDGE = 4.0  # relatives err together, so a measured checkpoint counts as a quarter of one
_FLAT = 1e-6  # precision of the offset: nothing is known of it before
_LEAST = 1e-6  # probability: predictions are linear and may fall below zero
_TINY = 1e-9


def looks(candidates: int) -> int:
    """How many checkpoints are looked at: 16, and 2√N of many."""
    return min(candidates, max(LEAST, round(2 * math.sqrt(candidates))))


def tasks_known(history: NDArray[np.floating]) -> int:
    """Past tasks on which half of the checkpoints or more were measured."""
    if not history.size:
        return 0
    return int((np.isfinite(history).mean(axis=0) >= COVERED).sum())


def recall(
    scorer: Scorer,
    candidates: Sequence[Candidate],
    group: Mapping[str, int],
    history: NDArray[np.floating],
    criterion: Criterion,
    progress: Progress,
    *,
    finalists: int,
) -> Outcome:
    """Look at the checkpoints that past tasks and the looks so far promise, then race these.

    Args:
        scorer: of the task's sample.
        candidates: who can be chosen, of different content.
        group: digest to group; only the best of a group runs the last rung of the race.
        history: ``(candidates × past tasks)`` values of the criterion, NaN where unknown.
        criterion: what decides.
        progress: where to show bars.
        finalists: how many at least go over the whole sample.
    """
    budget, count = looks(len(candidates)), min(LOOK, len(scorer.tokens))
    with progress.bar("looking", budget * count) as advance:

        def look(places: Sequence[int]) -> list[float]:
            made = scorer.scores([candidates[place] for place in places], count, advance)
            values = {score.digest: -score.value(criterion) for score in made}
            found = [values.get(candidates[place].digest, math.nan) for place in places]
            return _goodness(np.array(found), criterion).tolist()

        past = -history if criterion == "loss" else history
        choice = choose(look, _goodness(past, criterion), budget)
    seen = [candidates[place] for place in choice.measured]
    race = racing(scorer, seen, criterion, progress, finalists=finalists, groups=group, first=count)
    unseen = set(range(len(candidates))) - {*choice.measured, *choice.failed}
    expected = {
        candidates[place].checkpoint: _value(choice.mean[place], criterion)
        for place in sorted(unseen)
    }
    return Outcome(race.scores, expected)


def _goodness(values: NDArray[np.floating], criterion: Criterion) -> NDArray[np.floating]:
    """Higher is better: accuracy, bits, or the geometric mean of answer tokens' probabilities."""
    return np.exp(values) if criterion == "loss" else values


def _value(goodness: float, criterion: Criterion) -> float:
    """The criterion with the sign of :meth:`Score.value`; the inverse of :func:`_goodness`."""
    return -math.log(max(goodness, _LEAST)) if criterion == "loss" else -goodness


@dataclass(frozen=True)
class Choice:
    """What was measured for a new task, and what is predicted for the rest.

    Attributes:
        measured: checkpoint to value, in the order of measuring; only finite values.
        failed: checkpoints whose value was not a number; they are never chosen.
        mean: (checkpoints,) the value where measured, else the prediction; -inf where it failed.
        error: (checkpoints,) standard error of ``mean``, zero where measured.
    """

    measured: Mapping[int, float]
    failed: tuple[int, ...]
    mean: Array
    error: Array

    @property
    def best(self) -> tuple[int, ...]:
        """Measured checkpoints, best first: a prediction alone is never chosen."""
        return tuple(sorted(self.measured, key=lambda donor: -self.measured[donor]))


def landmarks(factors: Factors, count: int) -> list[int]:
    """Up to ``count`` checkpoints whose values, once measured, predict all others best.

    Greedy: each leaves the least variance, summed over all checkpoints (A-optimal design).
    """
    values, found = factors.values, list[int]()
    wanted, doubt = values.T @ values, np.eye(values.shape[1])
    for _ in range(min(count, len(factors))):
        reach = values @ doubt
        total = np.einsum("dr,dr->d", reach, values) + _RIDGE * factors.noise
        gain = np.einsum("dr,rs,ds->d", reach, wanted, reach) / total
        gain[found] = -np.inf
        one = int(gain.argmax())
        found.append(one)
        doubt = doubt - np.outer(reach[one], reach[one]) / total[one]
    return found


def predict(factors: Factors, observed: Mapping[int, float]) -> tuple[Array, Array]:
    """Mean and standard error ``(checkpoints,)`` of each checkpoint's value on a new task.

    ``observed`` maps a checkpoint to its measured value, which it keeps, with no error. With
    nothing observed the result is in standardised units.
    """
    donors = np.fromiter(observed, int, len(observed))
    values = np.fromiter(observed.values(), float, len(observed))
    offset, scale = values.mean() if len(values) else 0.0, _scale(factors, donors, values)
    design = np.column_stack([np.ones(len(factors)), factors.values])
    prior = np.r_[_FLAT, np.ones(len(factors.usual))]
    weighted = design[donors].T / (_RIDGE * factors.noise[donors])
    doubt = np.linalg.inv(np.diag(prior) + weighted @ design[donors])
    usual = prior * np.r_[0.0, factors.usual]
    weights = doubt @ (usual + weighted @ ((values - offset) / scale))
    mean = offset + scale * (design @ weights)
    variance = np.einsum("dr,rs,ds->d", design, doubt, design) + factors.noise
    error = scale * np.sqrt(variance)
    mean[donors], error[donors] = values, 0.0
    return mean, error


def _scale(factors: Factors, donors: Array, values: Array) -> float:
    """Spread of the values over the spread that the same checkpoints had on past tasks."""
    if len(values) < 2 or not np.ptp(values):
        return 1.0
    past = factors.past[donors]
    known = np.isfinite(past)
    count = known.sum(axis=0)
    several = count > 1
    past = np.where(known, past, 0.0)[:, several]
    squares = (past**2).sum(axis=0) - past.sum(axis=0) ** 2 / count[several]
    usual = np.sqrt(squares.sum() / count[several].sum()) if squares.sum() > 0 else 1.0
    return float(np.std(values) / usual)


def choose(
    evaluate: Callable[[Sequence[int]], Sequence[float]],
    history: Array,
    budget: int,
    *,
    first: int = FIRST,
    at_once: int = ROUND,
) -> Choice:
    """Measure ``budget`` of ``history (checkpoints × past tasks)``, the most promising first.

    First ``first`` landmarks, then in rounds of ``at_once`` the best predicted. The last place of
    a round explores: it goes to the highest mean plus one standard error.

    Args:
        evaluate: places of checkpoints to their values on the new task, higher is better; a value
            that is not finite is a failure and counts as spent.
        history: values on past tasks, higher is better, NaN where unknown.
        budget: evaluations at most.
        first, at_once: how many are measured before the first prediction, and between later ones.
    """
    factors = learn(history)
    measured: dict[int, float] = {}
    failed: list[int] = []
    wanted = landmarks(factors, min(first, budget))
    while wanted:
        values = dict(zip(wanted, map(float, evaluate(wanted)), strict=True))
        measured |= {donor: value for donor, value in values.items() if np.isfinite(value)}
        failed += [donor for donor, value in values.items() if not np.isfinite(value)]
        mean, error = _believed(factors, measured, failed)
        room = min(budget, len(factors)) - len(measured) - len(failed)
        wanted = _promising(mean, error, [*measured, *failed], min(at_once, room))
    mean, error = _believed(factors, measured, failed)
    return Choice(measured, tuple(failed), mean, error)


def _believed(
    factors: Factors, measured: Mapping[int, float], failed: Sequence[int]
) -> tuple[Array, Array]:
    mean, error = predict(factors, measured)
    mean[list(failed)], error[list(failed)] = -np.inf, 0.0
    return mean, error


def _promising(mean: Array, error: Array, done: Sequence[int], count: int) -> list[int]:
    """The best predicted of those not done; in the last place, the one that could be best."""
    left = np.setdiff1d(np.arange(len(mean)), done)
    order = left[np.argsort(-mean[left], kind="stable")]
    if count < 2:
        return [int(one) for one in order[:count]]
    rest = order[count - 1 :]
    explored = rest[np.argmax(mean[rest] + error[rest])]
    return [int(one) for one in (*order[: count - 1], explored)]


@dataclass(frozen=True)
class Factors:
    """The ledger as factors: a past task's standardised column is about ``values @ loadings``.

    Attributes:
        values: (checkpoints × rank), zero for one that was never measured.
        usual: (rank,) mean loadings of the past tasks; loadings have mean square 1.
        noise: (checkpoints,) variance that the factors do not explain, in standardised units.
        past: (checkpoints × tasks) standardised values, NaN where unknown.
    """

    values: Array
    usual: Array
    noise: Array
    past: Array

    def __len__(self) -> int:
        return len(self.values)


def learn(history: Array, rank: int = RANK) -> Factors:
    """Fit the factors of ``history (checkpoints × past tasks)``, NaN where unknown.

    Tasks differ in units, so each is centred and scaled. A task on which all checkpoints are
    equal, or fewer than two are known, carries no information and is not used.
    """
    past = _standardised(np.asarray(history, float))
    if not past.size:
        return Factors(np.zeros((len(past), 0)), np.zeros(0), np.ones(len(past)), past)
    known = np.isfinite(past)
    filled = _filled(past, known, rank)
    past, filled = _restandardised(past, filled)
    _, scales, axes = np.linalg.svd(filled, full_matrices=False)
    kept = scales[:rank] > _TINY * scales[0]
    spread = scales[:rank][kept] ** 2 / filled.size
    loadings = axes[:rank][kept].T * np.sqrt(past.shape[1])
    values, noise = _fitted(past, known, loadings, spread)
    return Factors(values, loadings.mean(axis=0), noise, past)


def _standardised(history: Array) -> Array:
    known = np.isfinite(history)
    count = np.maximum(known.sum(axis=0), 1)
    values = np.where(known, history, 0.0)
    offsets = np.where(known, history - values.sum(axis=0) / count, 0.0)
    scale = np.sqrt((offsets**2).sum(axis=0) / count)
    varies = scale > _TINY * np.maximum(np.abs(values).max(axis=0, initial=0.0), _TINY)
    return np.where(known, offsets / np.where(varies, scale, 1.0), np.nan)[:, varies]


def _filled(past: Array, known: NDArray[np.bool_], rank: int) -> Array:
    """Unknown entries by the low-rank model.

    The centre is that of the filled column, since those measured on a task are often the better
    half.
    """
    filled = np.where(known, past, 0.0)
    for _ in range(0 if known.all() else _ROUNDS):
        centre = filled.mean(axis=0)
        offsets = filled - centre
        axes = np.linalg.eigh(offsets.T @ offsets).eigenvectors[:, -rank:]
        filled = np.where(known, past, centre + offsets @ axes @ axes.T)
    return filled


def _restandardised(past: Array, filled: Array) -> tuple[Array, Array]:
    centre = filled.mean(axis=0)
    scale = np.sqrt(((filled - centre) ** 2).mean(axis=0))
    return (past - centre) / scale, (filled - centre) / scale


def _fitted(
    past: Array, known: NDArray[np.bool_], loadings: Array, spread: Array
) -> tuple[Array, Array]:
    """Factors of each checkpoint from its known entries, and the variance that is left.

    Ridge with the spread of the factors as prior: few entries give small factors, none give zero.
    """
    values = np.where(known, past, 0.0)
    unsaid = max(1.0 - spread.sum(), _TINY)
    seen = np.einsum("dt,tr,ts->drs", known.astype(float), loadings, loadings)
    doubt = np.linalg.inv(seen / unsaid + np.diag(1.0 / spread))
    factors = np.einsum("drs,ds->dr", doubt, values @ loadings / unsaid)
    missed = (np.where(known, past - factors @ loadings.T, 0.0) ** 2).sum(axis=1)
    own = (missed + _WEIGHT * unsaid) / (known.sum(axis=1) + _WEIGHT)
    return factors, own + np.trace(doubt, axis1=1, axis2=2)
