"""Outcome: what a strategy measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mashup._score.result import Score
from mashup.checkpoint import Checkpoint


@dataclass(frozen=True)
class Outcome:
    """The scores of a strategy, in no order.

    Attributes:
        scores: each checkpoint at most once, with as many examples as it got.
        expected: checkpoints that were not measured, with what was expected of them.
        forwards, seconds: what was spent beside these scores, in forward-equivalents.
    """

    scores: tuple[Score, ...]
    expected: Mapping[Checkpoint, float] = field(default_factory=dict)
    forwards: float = 0.0
    seconds: float = 0.0
