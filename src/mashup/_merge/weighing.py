"""Weights of the parents: given, uniform, or from how well each fits the task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from mashup._merge.methods import Method
from mashup.errors import Problem, UsageError

Weights = Sequence[float] | Literal["uniform", "loss", "newton"] | None


def weights_for(
    method: Method, weights: Weights, count: int, losses: Sequence[float] | None
) -> tuple[float, ...]:
    """One weight a parent.

    Args:
        method: decides what ``uniform`` is: 1/k each, or 1 each for methods that sum.
        weights: numbers, ``uniform`` (also None), or ``loss``: ``softmax(-losses)``. Those of
            ``newton`` need the model: :func:`mashup._init.newton` makes numbers of it.
        count: of parents.
        losses: of the parents on the task's sample, in nats a token; for ``loss``.

    Raises:
        UsageError: not one a parent, not finite, all zero, or no losses to make them from.
    """
    if count == 0:
        raise UsageError(Problem("nothing to merge", "parents", "none", "at least one"))
    if weights is None or weights == "uniform":
        return (1.0 if method.sums else 1 / count,) * count
    if weights == "loss":
        return _softmax(_known(losses, count))
    if weights == "newton":
        fix = "use 'mashup init', or 'mashup merge' with --model and --dataset"
        raise UsageError(Problem("nothing to measure on", "`weights` newton", fix=fix))
    given = tuple(weights)
    if len(given) != count:
        expected = f"{count}, one for each parent"
        raise UsageError(Problem("wrong number of weights", "`weights`", str(len(given)), expected))
    if not all(math.isfinite(weight) for weight in given) or not any(given):
        expected = "finite numbers, not all zero"
        raise UsageError(Problem("bad weights", "`weights`", str(list(given)), expected))
    return _positive(method, given)


def _positive(method: Method, weights: tuple[float, ...]) -> tuple[float, ...]:
    """Methods that divide by a sum of weights cannot take any that cancel."""
    divides = method.elect or method.name == "slerp"
    if divides and (min(weights) < 0 or not sum(weights) > 0):
        expected = f"numbers of at least 0: {method.name} divides by their sum"
        raise UsageError(Problem("bad weights", "`weights`", str(list(weights)), expected))
    return weights


def _known(losses: Sequence[float] | None, count: int) -> Sequence[float]:
    if losses is None or len(losses) != count or not all(map(math.isfinite, losses)):
        fix = "use 'mashup init', or give --model and --dataset to measure them"
        raise UsageError(Problem("no losses of the parents", "`weights` loss", fix=fix))
    return losses


def _softmax(losses: Sequence[float]) -> tuple[float, ...]:
    parts = [math.exp(min(losses) - loss) for loss in losses]
    return tuple(part / sum(parts) for part in parts)
