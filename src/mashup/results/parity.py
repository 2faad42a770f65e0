"""Steps and seconds to parity, by a fair rule and by the paper's.

The fair rule treats both arms alike. It takes each arm's first evaluation at which the dev loss
is at or below scratch's *final* dev loss. Scratch has such a step too, often before its end, so
two identical curves save nothing.

The paper's rule (arXiv 2603.10156, as we read it) takes the first evaluation at which the arm's
test accuracy is at or above scratch's final one. It compares this with scratch's *whole* budget.
Curves are noisy, so even identical arms seem to save much. It is reported under its own name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mashup.results.curve import Point


@dataclass(frozen=True)
class Parity:
    """When an arm reaches scratch's final quality.

    Attributes:
        steps, seconds: of the arm, None if never; with the overhead before its first step.
        scratch_steps, scratch_seconds: of scratch, to compare with.
    """

    steps: int | None
    seconds: float | None
    scratch_steps: int
    scratch_seconds: float


def fair_parity(
    arm: Sequence[Point],
    scratch: Sequence[Point],
    overhead: float = 0.0,
    scratch_overhead: float = 0.0,
) -> Parity:
    """First crossing of scratch's final dev loss, by the same rule for both.

    Args:
        arm, scratch: curves from step 0 to the end.
        overhead, scratch_overhead: seconds that each cost before its first step.
    """
    level = scratch[-1].dev_loss
    mine = next((point for point in arm if point.dev_loss <= level), None)
    theirs = next((point for point in scratch if point.dev_loss <= level), scratch[-1])
    return _parity(mine, overhead, theirs, scratch_overhead)


def paper_parity(
    arm: Sequence[Point],
    scratch: Sequence[Point],
    overhead: float = 0.0,
    scratch_overhead: float = 0.0,
) -> Parity:
    """First crossing of scratch's final test accuracy, against scratch's whole budget.

    Points without test values do not count; :func:`reads_test` says whether there are any.
    """
    level = scratch[-1].test_accuracy
    known = ((point, point.test_accuracy) for point in arm)
    mine = next((p for p, own in known if None not in (own, level) and own >= level), None)  # type: ignore[operator]
    return _parity(mine, overhead, scratch[-1], scratch_overhead)


def reads_test(curve: Sequence[Point]) -> bool:
    """Whether the test rows were evaluated at every point."""
    return all(point.test_accuracy is not None for point in curve)


def _parity(mine: Point | None, overhead: float, theirs: Point, before: float) -> Parity:
    whole = theirs.seconds + before
    if mine is None:
        return Parity(None, None, theirs.step, whole)
    return Parity(mine.step, mine.seconds + overhead, theirs.step, whole)
