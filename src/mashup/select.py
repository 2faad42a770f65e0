"""Choose the parents of a merge, or none: scores in, choice out, no torch."""

from __future__ import annotations

from dataclasses import dataclass

from mashup.score.result import Score
from mashup.score.scores import Scores

NOTHING_HELPS = "no checkpoint helps; start from the base"


@dataclass(frozen=True)
class Selection:
    """The chosen checkpoints, best first; empty when none beats the base for sure."""

    chosen: tuple[Score, ...]
    scores: Scores

    @property
    def is_empty(self) -> bool:
        return not self.chosen

    @property
    def sentence(self) -> str:
        """The choice in words."""
        if self.is_empty:
            return NOTHING_HELPS
        parts = []
        for score in self.chosen:
            difference, error = score.against(self.scores.base, self.scores.criterion)
            parts.append(f"{score.name} ({difference:+.3f} ± {error:.3f} {self._unit})")
        return f"start from {' and '.join(parts)} against the base"

    @property
    def _unit(self) -> str:
        return "nats a token" if self.scores.criterion == "loss" else "error rate"


def select(scores: Scores, *, k: int = 2, errors: float = 2.0) -> Selection:
    """The best ``k`` checkpoints among those that beat the base.

    Args:
        scores: a ranking by the criterion that decides.
        k: how many at most.
        errors: by how many paired standard errors a checkpoint must beat the base.

    Raises:
        ValueError: ``k`` is less than 1.
    """
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    better: dict[str, Score] = {}  # by content: a copy of an adapter is no second parent
    for score in scores.finalists:
        difference, error = score.against(scores.base, scores.criterion)
        if difference < -errors * error:
            better.setdefault(score.digest, score)
    return Selection(tuple(better.values())[:k], scores)
