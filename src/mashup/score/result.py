"""Scores: what scoring found, with its uncertainty against the base and its cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mashup.checkpoint import Checkpoint
from mashup.errors import Problem
from mashup.score.evaluate import Evaluation

Criterion = Literal["loss", "accuracy"]


@dataclass(frozen=True)
class Score:
    """One checkpoint on the sample.

    Attributes:
        checkpoint: None for the base itself.
        evaluation: per-example losses and hits.
        digest: content digest of the checkpoint, "" for the base.
        seconds: what the evaluation took when it was made (also when it came from the cache).
        cached: whether it came from the cache.
    """

    checkpoint: Checkpoint | None
    evaluation: Evaluation
    digest: str = ""
    seconds: float = 0.0
    cached: bool = False

    @property
    def name(self) -> str:
        return self.checkpoint.name if self.checkpoint else "base"

    @property
    def loss(self) -> float:
        return self.evaluation.loss

    @property
    def accuracy(self) -> float:
        return self.evaluation.accuracy

    def value(self, criterion: Criterion) -> float:
        """The criterion's value, turned so that lower is better."""
        return self.loss if criterion == "loss" else -self.accuracy

    def against(self, base: Score, criterion: Criterion = "loss") -> tuple[float, float]:
        """Difference to ``base`` (negative is better) and its paired standard error.

        Loss is a ratio of sums, so its error is that of the ratio estimator: with
        ``d_i`` the difference of example i's summed losses, ``n_i`` its answer tokens
        and ``D = Σd/Σn``, the standard error is ``sqrt(N/(N-1) · Σ(d_i - D·n_i)²) / Σn``
        (Cochran, Sampling Techniques, 1977, section 2.11). Accuracy has ``n_i = 1``.
        """
        mine, theirs = self.evaluation, base.evaluation
        if criterion == "loss":
            differences, weights = mine.losses - theirs.losses, mine.tokens.astype(float)
        else:
            differences = theirs.correct.astype(float) - mine.correct.astype(float)
            weights = np.ones(len(differences))
        return paired(differences, weights)


def paired(differences: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """``Σd/Σn`` and its standard error; infinite for a single example."""
    count, total = len(differences), weights.sum()
    mean = differences.sum() / total
    if count < 2:
        return float(mean), float("inf")
    residual = differences - mean * weights
    return float(mean), float(np.sqrt(count / (count - 1) * (residual**2).sum()) / total)


@dataclass(frozen=True)
class Scores:
    """The ranking of a library on a sample.

    Attributes:
        base: the base model's own score.
        ranking: checkpoints, best first by ``criterion``.
        criterion: ``loss`` (nats per answer token) or ``accuracy`` (exact answers).
        base_name, base_digest, base_dtype: the model that all were put on.
        sample_digest: of the token ids and answer marks; the template is in it.
        unchanged: checkpoints that change nothing (B = 0), left out of the ranking.
        left_out: checkpoints that were not scored, and why.
        seconds: wall-clock of this call; ``full_seconds`` what it costs without the cache.
    """

    base: Score
    ranking: tuple[Score, ...]
    criterion: Criterion
    base_name: str
    base_digest: str
    base_dtype: str
    sample_digest: str
    unchanged: tuple[Checkpoint, ...] = ()
    left_out: tuple[Problem, ...] = ()
    seconds: float = 0.0
    full_seconds: float = 0.0

    @property
    def examples(self) -> int:
        return len(self.base.evaluation.losses)

    def score_of(self, path: Path) -> Score:
        """The score of the checkpoint in ``path``."""
        return next(s for s in self.ranking if s.checkpoint and s.checkpoint.path == path)

    def rows(self) -> list[dict[str, Any]]:
        """One JSON-able row a checkpoint, base included, best first."""
        return [self._row(score) for score in (*self.ranking, self.base)]

    def _row(self, score: Score) -> dict[str, Any]:
        difference, error = score.against(self.base, self.criterion)
        return {
            "name": score.name,
            "path": str(score.checkpoint.path) if score.checkpoint else self.base_name,
            "digest": score.digest or self.base_digest,
            "loss": score.loss,
            "accuracy": score.accuracy,
            "difference": difference,
            "standard_error": error if math.isfinite(error) else None,
            "seconds": score.seconds,
            "cached": score.cached,
            "losses": score.evaluation.losses.tolist(),
        }
