"""The files of a run that statistics are computed from: its curve and its test values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from mashup.errors import InputError, Problem
from mashup.state import read_lines, read_state

CURVE, TEST, START_TEST = "curve.jsonl", "test.json", "test-start.json"


@dataclass(frozen=True)
class Point:
    """One evaluation.

    Attributes:
        step: optimizer steps so far.
        seconds: spent on training steps so far, evaluations not counted.
        tokens: input tokens trained on so far.
        dev_loss, test_loss: nats per answer token.
        dev_accuracy, test_accuracy: share of exact answers. The test values are None where
            the test rows were not evaluated.
    """

    step: int
    seconds: float
    tokens: int
    dev_loss: float
    dev_accuracy: float
    test_loss: float | None = None
    test_accuracy: float | None = None

    def to_json(self) -> dict[str, float]:
        """The fields that have a value."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def least(points: Sequence[Point]) -> Point:
    """The point with the lowest dev loss; the earliest of equals. NaN counts as infinity."""
    return min(points, key=lambda p: p.dev_loss if math.isfinite(p.dev_loss) else math.inf)


def read_curve(path: Path) -> tuple[Point, ...]:
    """The points of a ``curve.jsonl``. A last line that a kill has cut off is dropped.

    Raises:
        InputError: the file is damaged.
    """
    return read_lines(Point, path, _fix(path), may_be_cut=True) if path.exists() else ()


def check_curve(path: Path, points: Iterable[Point], steps: Iterable[int]) -> None:
    """Check that a curve has a point at each of ``steps`` and no others.

    Raises:
        InputError: it has other points.
    """
    found, expected = [point.step for point in points], sorted(steps)
    if found != expected:
        shown = f"points at steps {', '.join(map(str, found)) or 'none'}"
        wanted = f"points at steps {', '.join(map(str, expected))}"
        raise InputError(Problem("damaged file", str(path), shown, wanted, _fix(path)))


class Values(BaseModel):
    """``test.json``: per test example, the loss (sum, nats), answer tokens, hit and prompt."""

    version: Literal[1] = 1
    losses: list[float]
    tokens: list[float]
    correct: list[bool | float]
    prompts: list[int] | None = None


def read_values(path: Path) -> dict[str, list[float]]:
    """Per-example test values of a run.

    Raises:
        InputError: the file is missing or damaged.
    """
    return read_state(Values, path, _fix(path)).model_dump(exclude={"version"}, exclude_unset=True)


def _fix(path: Path) -> str:
    return f"remove {path.parent} and give the same command again"
