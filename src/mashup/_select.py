"""Choose the parents of a merge, or none: scores in, choice out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mashup._score.result import Score
from mashup._score.scores import Scores
from mashup.similarity.clusters import SAME, Row, leaders
from mashup.similarity.diverse import marginal, relative
from mashup.tables import as_html, as_text

NOTHING_HELPS = "no checkpoint helps; start from the base"
NONE_KNOWS = (
    "no checkpoint knows this task; start from the base (any other start gives the form of the "
    "answers, which training learns in its first steps)"
)


@dataclass(frozen=True)
class Passed:
    """A checkpoint that ranked ahead of one that was chosen, and was passed over.

    Attributes:
        score: it.
        like: the chosen one that it is most like.
        cosine: of their deltas.
        is_same: whether they are of one group.
    """

    score: Score
    like: Score
    cosine: float
    is_same: bool

    @property
    def sentence(self) -> str:
        word = "nearly the same as" if self.is_same else "like"
        return f"{self.score.name} ({word} {self.like.name}, cosine {self.cosine:.2f})"


@dataclass(frozen=True, repr=False)
class Selection:
    """The chosen checkpoints, in the order of choice; empty when none beats the base for sure.

    Attributes:
        chosen: the best first.
        scores: what they were chosen from.
        passed: who ranked ahead of one of them, best first.
    """

    chosen: tuple[Score, ...]
    scores: Scores
    passed: tuple[Passed, ...] = ()

    def __repr__(self) -> str:
        return as_text(f"Selection: {self.sentence}", self._shown())

    def _repr_html_(self) -> str:
        return as_html(f"Selection: {self.sentence}", self._shown())

    def _shown(self) -> list[dict[str, Any]]:
        return [
            {"name": one.name, "loss": one.loss, "accuracy": one.accuracy, "path": one.path}
            for one in self.chosen
        ]

    @property
    def is_empty(self) -> bool:
        return not self.chosen

    @property
    def sentence(self) -> str:
        """The choice in words."""
        if self.is_empty:
            return NONE_KNOWS if self.scores.criterion == "knowledge" else NOTHING_HELPS
        parts = " and ".join(map(self._part, self.chosen))
        if self.scores.criterion == "knowledge":
            count = len(self.chosen)
            known = "1 checkpoint knows" if count == 1 else f"{count} checkpoints know"
            return f"{known} this task; start from {parts}{self._passed_over}"
        return f"start from {parts} against the base{self._passed_over}"

    def _part(self, score: Score) -> str:
        if self.scores.criterion == "knowledge" and score.knowledge:
            bits, error = score.knowledge.bits, score.knowledge_error
            return f"{score.name} ({bits:.2f} ± {error:.2f} bits)"
        difference, error = score.against(self.scores.base, self.scores.criterion)
        return f"{score.name} ({difference:+.3f} ± {error:.3f} {self._unit})"

    @property
    def _passed_over(self) -> str:
        if not self.passed:
            return ""
        told = [one.sentence for one in self.passed[:_TOLD]]
        rest = len(self.passed) - len(told)
        return f"; passed over: {', '.join(told)}" + (f" and {rest} more" if rest else "")

    @property
    def _unit(self) -> str:
        return "nats a token" if self.scores.criterion == "loss" else "error rate"


_TOLD = 3  # names in a sentence that is read


def select(
    scores: Scores,
    *,
    k: int = 2,
    errors: float = 2.0,
    diversity: float = 0.0,
    same: float = SAME,
) -> Selection:
    """The best ``k`` checkpoints, no two of one run, among those that beat the base.

    By knowledge, a checkpoint must know the task: its bits must be above zero as well as above
    those of the base.

    Args:
        scores: a ranking by the criterion that decides.
        k: how many at most.
        errors: by how many paired standard errors a checkpoint must beat the base.
        diversity: how much of the best one's gain over the base may be given up for a
            checkpoint at right angles to those chosen instead of a copy
            (:func:`mashup.similarity.marginal`).
        same: the least cosine of two that are near-identical; the best one stands for all.

    Raises:
        ValueError: ``k`` is less than 1, or ``diversity`` is negative or there are no sketches.
    """
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    if not (diversity >= 0 and math.isfinite(diversity)):
        raise ValueError(f"diversity is {diversity}; it must be 0 or more")
    better = _better(scores, errors)
    if not better:
        return Selection((), scores)
    if diversity and not scores.sketches:
        raise ValueError("diversity needs sketches of the checkpoints' deltas")
    if not scores.sketches:  # then only copies are known to be the same
        return Selection(better[:k], scores)
    row = scores.cosines([score.digest for score in better])
    values = np.array([score.value(scores.criterion) for score in better])
    lost = relative(values, scores.base.value(scores.criterion))
    chosen = _diverse(lost, row, k, diversity, same)
    passed = _passed(better, chosen, row, same)
    return Selection(tuple(better[index] for index in chosen), scores, passed)


def _better(scores: Scores, errors: float) -> tuple[Score, ...]:
    """Those that beat the base for sure, best first; of copies of one content the first."""
    better: dict[str, Score] = {}
    for score in scores.finalists:
        difference, error = score.against(scores.base, scores.criterion)
        known = score.knowledge if scores.criterion == "knowledge" else None
        if known and known.bits <= errors * score.knowledge_error:
            continue
        if difference < -errors * error:
            better.setdefault(score.digest, score)
    return tuple(better.values())


def _diverse(
    lost: NDArray[np.floating], row: Row, k: int, diversity: float, same: float
) -> list[int]:
    """Indices of the chosen: of each group only its best; without diversity the first ``k``."""
    found = leaders(row, len(lost), same, None if diversity else k)
    led = np.unique(found[found >= 0])
    chosen = marginal(lost[led], lambda index: row(int(led[index]))[led], k, diversity)
    return [int(led[index]) for index in chosen]


def _passed(
    better: Sequence[Score], chosen: Sequence[int], row: Row, same: float
) -> tuple[Passed, ...]:
    """Those that ranked ahead of the last of the chosen, each with the one it is most like."""
    ahead = [index for index in range(max(chosen)) if index not in chosen]
    if not ahead:
        return ()
    rows = np.stack([row(index) for index in chosen])
    found = []
    for index in ahead:
        nearest = int(np.argmax(rows[:, index]))
        cosine = float(rows[nearest, index])
        like = better[chosen[nearest]]
        found.append(Passed(better[index], like, cosine, cosine >= same))
    return tuple(found)
