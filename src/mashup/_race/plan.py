"""The rules of a race: who runs how far, who is given up, who has won. No files, no torch.

A *lane* is one start at one learning rate. All lanes have the schedule of a whole run and are
compared at *rungs*, steps of the curve (successive halving, arXiv 1502.07943). After the first rung
each start keeps its best rate. After the second, scratch and the best other start remain. At every
rung a lane is given up that cannot overtake the first. Lanes are compared on the same dev examples,
so differences are paired.

The first rung is at half of a run. At a quarter a high rate has not decayed yet, and what it has
learnt does not show: 11 replayed races lose 5.5 points there (benchmarks/race_rungs.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mashup.errors import Problem, UsageError

SCRATCH = "scratch"
#: Differences within so many paired standard errors are called noise.
NOISE = 2.0
#: Where the first two rungs are, as shares of a whole run, unless a budget asks for less.
SHARES = (1 / 2, 3 / 4)


@dataclass(frozen=True, order=True)
class Lane:
    """One start at one peak learning rate."""

    start: str
    rate: float

    @property
    def name(self) -> str:
        return f"{self.start}-lr{self.rate:g}"

    def to_json(self) -> dict[str, Any]:
        return {"start": self.start, "learning_rate": self.rate}


@dataclass(frozen=True)
class Plan:
    """Which lanes run, and at which steps they are compared.

    Attributes:
        lanes: of scratch first, then of the other starts, rates in the order given.
        rungs: optimizer steps; the last is the end of a run.
    """

    lanes: tuple[Lane, ...]
    rungs: tuple[int, ...]

    @property
    def most(self) -> int:
        """Optimizer steps if no lane is given up early."""
        return _most(self.lanes, self.rungs)


def make_plan(
    starts: Sequence[str], rates: Sequence[float], points: Sequence[int], budget: int | None
) -> Plan:
    """Lanes and rungs.

    Args:
        starts: names; scratch is added if it is not among them.
        rates: peak learning rates, the same for every start.
        points: steps of the curve after step 0; rungs are among them.
        budget: most optimizer steps of all lanes together. None compares lanes at :data:`SHARES`
            of a run; with a number the first rung is as late as the number allows.

    Raises:
        UsageError: the budget is too small for any plan.
    """
    names = [SCRATCH, *(name for name in starts if name != SCRATCH)]
    lanes = tuple(Lane(start, rate) for start in names for rate in rates)
    if len(lanes) == 1:
        plans = [Plan(lanes, (points[-1],))]
    else:
        plans = [Plan(lanes, _rungs(first, points)) for first in points]
    if budget is None:
        wanted = SHARES[0] * points[-1]
        return next(plan for plan in plans if plan.rungs[0] >= wanted)
    fitting = [plan for plan in plans if plan.most <= budget]
    if not fitting:
        least = min(plan.most for plan in plans)
        found = f"{budget} steps for {len(names)} starts and {len(rates)} learning rates"
        fix = "give a larger `budget`, fewer `learning_rates`, or more `evaluations`"
        raise UsageError(Problem("budget too small", "`budget`", found, f"at least {least}", fix))
    return fitting[-1]


def fits(
    starts: Sequence[str], rates: Sequence[float], points: Sequence[int], budget: int | None
) -> bool:
    """Whether a budget has room for some plan of these starts."""
    try:
        make_plan(starts, rates, points, budget)
    except UsageError:
        return False
    return True


def _rungs(first: int, points: Sequence[int]) -> tuple[int, ...]:
    """The first rung, the second at about one and a half times its steps, and the end."""
    end = points[-1]
    later = [point for point in points if first < point < end]
    wanted = first * SHARES[1] / SHARES[0]
    second = min(later, key=lambda point: abs(point - wanted), default=None)
    return tuple(sorted({first, second or end, end}))


def _most(lanes: Sequence[Lane], rungs: Sequence[int]) -> int:
    starts = len({lane.start for lane in lanes})
    counts = [len(lanes), starts, min(2, starts)]
    if len(rungs) == 2:
        counts = [len(lanes), min(2, starts)]
    before = (0, *rungs)
    return sum(n * (b - a) for n, a, b in zip(counts, before, rungs, strict=False))


@dataclass(frozen=True)
class DevPoint:
    """Dev values of a lane at one step.

    Attributes:
        losses: ``(n,)`` nats, summed over each answer's tokens.
        tokens: ``(n,)`` answer tokens.
    """

    step: int
    losses: NDArray[np.float64]
    tokens: NDArray[np.int64]

    @property
    def loss(self) -> float:
        """Nats per answer token; infinite where the loss is not a number."""
        value = float(self.losses.sum() / self.tokens.sum())
        return value if math.isfinite(value) else math.inf


def difference(one: DevPoint, other: DevPoint) -> tuple[float, float]:
    """Dev loss of ``one`` minus that of ``other``, in nats a token, and its paired standard error.

    The ratio estimator over examples: residuals of the difference around its mean per token.
    The error is 0 for a single example, or where a loss is infinite.
    """
    value = one.loss - other.loss
    count = len(one.losses)
    if not math.isfinite(value) or count < 2:
        return value, 0.0
    residuals = one.losses - other.losses - value * one.tokens
    scale = math.sqrt(count / (count - 1)) / one.tokens.sum()
    return value, float(np.sqrt(np.square(residuals).sum()) * scale)


def standing(points: Sequence[DevPoint], keep: str) -> DevPoint:
    """The point that a lane is judged by: its best so far, or its last with ``keep="last"``."""
    return points[-1] if keep == "last" else min(points, key=lambda point: point.loss)


def reach(points: Sequence[DevPoint], keep: str, end: int) -> float:
    """The dev loss that a lane could still come to: its last slope, straight on to the end.

    Loss curves flatten under a decaying rate, so this is generous. Never below zero.
    """
    now = standing(points, keep).loss
    if len(points) < 2:
        return 0.0
    before, last = points[-2:]
    if not math.isfinite(last.loss):
        return now
    slope = max(0.0, (before.loss - last.loss) / (last.step - before.step))
    return max(0.0, min(now, last.loss) - slope * (end - last.step))


@dataclass(frozen=True)
class Verdict:
    """What happens to a lane at a rung.

    Attributes:
        loss: dev loss that it is judged by, nats per answer token.
        behind: by how much it is behind the first, and the paired standard error.
        reason: why it is given up; empty if it goes on.
    """

    lane: Lane
    loss: float
    behind: tuple[float, float]
    reason: str = ""


def judge(
    curves: Mapping[Lane, Sequence[DevPoint]], rung: int, rungs: Sequence[int], keep: str
) -> list[Verdict]:
    """Who goes on after a rung, best first.

    Args:
        curves: points up to the rung of the lanes that are still in the race.
        rung: index of the rung in ``rungs``; after the last one the first has won.
        keep: ``best`` or ``last``.
    """
    points = {lane: standing(curve, keep) for lane, curve in curves.items()}
    order = sorted(points, key=lambda lane: points[lane].loss)  # stable: scratch before its equals
    first = order[0]
    seen: dict[str, int] = {}
    others = 0
    verdicts = []
    for lane in order:
        behind = difference(points[lane], points[first])
        is_best_rate = not seen.setdefault(lane.start, 0)
        seen[lane.start] += 1
        is_late = rung >= len(rungs) - 2  # the last rung but one, or the end
        others += is_best_rate and lane.start != SCRATCH
        floor = points[first].loss + NOISE * behind[1]
        reason = ""
        if lane == first:
            pass
        elif rung == len(rungs) - 1:
            reason = "behind at the end"
        elif not is_best_rate:
            reason = "another rate of this start is ahead"
        elif is_late and lane.start != SCRATCH and others > 1:
            reason = "another start is ahead"
        elif reach(curves[lane], keep, rungs[-1]) >= floor:
            reason = "cannot overtake the first"
        verdicts.append(Verdict(lane, points[lane].loss, behind, reason))
    return verdicts
