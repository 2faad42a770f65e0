"""Points of a run's curve, and the names of the files that a run leaves for statistics."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

CURVE, TEST, START_TEST = "curve.jsonl", "test.json", "test-start.json"


@dataclass(frozen=True)
class Point:
    """One evaluation.

    Attributes:
        step: optimizer steps so far.
        seconds: spent on training steps so far, evaluations not counted.
        tokens: input tokens trained on so far.
        dev_loss, test_loss: nats per answer token. dev_accuracy, test_accuracy: exact answers.
            Those of test are None where the test rows were not read.
    """

    step: int
    seconds: float
    tokens: int
    dev_loss: float
    dev_accuracy: float
    test_loss: float | None = None
    test_accuracy: float | None = None

    def to_json(self) -> dict[str, float]:
        """Without what was not read."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def least(points: Sequence[Point]) -> Point:
    """The point with the least dev loss, the earliest of equals; no number is more than any."""
    return min(points, key=lambda p: p.dev_loss if math.isfinite(p.dev_loss) else math.inf)


def read_curve(path: Path) -> tuple[Point, ...]:
    """The points of a ``curve.jsonl``; a last line that was cut off by a kill is dropped."""
    points = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            points.append(Point(**json.loads(line)))
        except (json.JSONDecodeError, TypeError):
            break
    return tuple(points)
