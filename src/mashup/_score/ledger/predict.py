"""How good donors are on a new task that few of them were measured on: ridge on their factors.

A new task is taken to be ``offset + scale · (factors @ loadings + noise)`` with the loadings near
those of the usual task, so that with nothing measured the donors stand as on other tasks.
Values are the better the higher: of losses give ``exp(-loss)``, which a diverged donor cannot
spoil.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mashup._score.ledger.factors import Array, Factors, learn

FIRST = 4
ROUND = 8
_RIDGE = 4.0  # relatives err together, so a measured donor counts as a quarter of one
_FLAT = 1e-6  # precision of the offset: it is not known before


@dataclass(frozen=True)
class Choice:
    """What was measured for a new task, and what is believed of the rest.

    Attributes:
        measured: donor to value, in the order of measuring; only finite values.
        failed: donors whose value was not a number; they are never chosen.
        mean: (donors,) the value where measured, else the prediction; -inf where it failed.
        error: (donors,) standard error of ``mean``, zero where measured.
    """

    measured: Mapping[int, float]
    failed: tuple[int, ...]
    mean: Array
    error: Array

    @property
    def best(self) -> tuple[int, ...]:
        """Measured donors, best first: a prediction is never chosen unseen."""
        return tuple(sorted(self.measured, key=lambda donor: -self.measured[donor]))


def landmarks(factors: Factors, count: int) -> list[int]:
    """Up to ``count`` donors which, once measured, tell most of all others.

    Greedy: each leaves the least variance, summed over all donors (A-optimal design).
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
    """Mean and standard error ``(donors,)`` of each donor's value on a new task.

    ``observed`` maps a donor to its measured value. Measured donors have that value and no error;
    with nothing observed the result is in standardised units.
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
    """Spread of the values over the spread that the same donors had on past tasks."""
    if len(values) < 2 or not np.ptp(values):
        return 1.0
    past = factors.past[donors]
    known = np.isfinite(past)
    count = known.sum(axis=0)
    told = count > 1
    past = np.where(known, past, 0.0)[:, told]
    squares = (past**2).sum(axis=0) - past.sum(axis=0) ** 2 / count[told]
    usual = np.sqrt(squares.sum() / count[told].sum()) if squares.sum() > 0 else 1.0
    return float(np.std(values) / usual)


def choose(
    evaluate: Callable[[Sequence[int]], Sequence[float]],
    history: Array,
    budget: int,
    *,
    first: int = FIRST,
    at_once: int = ROUND,
) -> Choice:
    """Measure ``budget`` donors of ``history (donors × past tasks)``, the most promising first.

    First ``first`` landmarks, then in rounds of ``at_once`` the best predicted; the last place of
    a round goes to the donor that could be best: mean and one standard error.

    Args:
        evaluate: donors to their values on the new task, the better the higher; a value that is
            not finite is a failure and counts as spent.
        history: values on past tasks, the better the higher, NaN where unknown.
        budget: evaluations at most.
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
    """The best predicted of those not done, and in the last place the one that could be best."""
    left = np.setdiff1d(np.arange(len(mean)), done)
    order = left[np.argsort(-mean[left], kind="stable")]
    if count < 2:
        return [int(one) for one in order[:count]]
    rest = order[count - 1 :]
    explored = rest[np.argmax(mean[rest] + error[rest])]
    return [int(one) for one in (*order[: count - 1], explored)]
