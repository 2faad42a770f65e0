"""Score: one checkpoint on the sample, with its uncertainty against another.

Where the answers are a finite set, what decides is the *knowledge* (bits above the label prior,
:mod:`mashup.evaluate.knowledge`); of free text only the loss is known, in which the form of an
answer and the knowledge are one number.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mashup.checkpoint import Checkpoint

if TYPE_CHECKING:
    from mashup.evaluate.evaluate import Evaluation
    from mashup.evaluate.knowledge import Knowledge

Criterion = Literal["loss", "accuracy", "knowledge"]


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        numbers = f"loss {self.loss:.4f}, accuracy {self.accuracy:.1%}, {self.examples} examples"
        return f"Score({self.name}: {numbers})"

    @property
    def name(self) -> str:
        return self.checkpoint.name if self.checkpoint else "base"

    @property
    def path(self) -> Path | None:
        return self.checkpoint.path if self.checkpoint else None

    @property
    def loss(self) -> float:
        return self.evaluation.loss

    @property
    def accuracy(self) -> float:
        return self.evaluation.accuracy

    @property
    def examples(self) -> int:
        """How many of the sample's examples, from its beginning."""
        return len(self.evaluation.losses)

    @cached_property
    def knowledge(self) -> Knowledge | None:
        """Form and knowledge; None of free text, and of fewer than two examples."""
        logs, labels = self.evaluation.answers, self.evaluation.labels
        if logs is None or labels is None or len(labels) < 2:
            return None
        from mashup.evaluate.knowledge import knowledge

        return knowledge(logs, labels)

    @property
    def knowledge_error(self) -> float:
        """Standard error of the bits of knowledge; examples of one prompt count as one."""
        gained = self._known.gained
        return paired(gained, np.ones(len(gained)), self.evaluation.prompts)[1]

    def value(self, criterion: Criterion) -> float:
        """The criterion's value, turned so that lower is better."""
        if criterion == "knowledge":
            return -self._known.bits
        return self.loss if criterion == "loss" else -self.accuracy

    @property
    def _known(self) -> Knowledge:
        if self.knowledge is None:
            raise ValueError("no knowledge without a finite set of answers")
        return self.knowledge

    def order(self, criterion: Criterion) -> tuple[float, float, str]:
        """What to sort by, best first: the criterion, then the loss, then the content."""
        return self.value(criterion), self.loss, self.digest

    def parts(self, criterion: Criterion) -> np.ndarray:
        """``(n,)`` what each example adds to the criterion, lower is better."""
        if criterion == "loss":
            return self.evaluation.losses
        if criterion == "knowledge":
            return -self._known.gained
        return 1.0 - self.evaluation.correct

    def against(self, other: Score, criterion: Criterion = "loss") -> tuple[float, float]:
        """Difference to ``other`` (negative is better) and its paired standard error.

        Over the examples that both were measured on, which are the first of the sample.
        Loss is a ratio of sums, so its error is that of the ratio estimator: with
        ``d_i`` the difference of example i's summed losses, ``n_i`` its answer tokens
        and ``D = Σd/Σn``, the standard error is ``sqrt(N/(N-1) · Σ(d_i - D·n_i)²) / Σn``
        (Cochran, Sampling Techniques, 1977, section 2.11). Accuracy and knowledge have
        ``n_i = 1``. Examples of one prompt count as one: their residuals are summed, and N is how
        many prompts there are (the ratio estimator of cluster sampling, ibid., 9A.1).
        """
        count = min(self.examples, other.examples)
        differences = self.parts(criterion)[:count] - other.parts(criterion)[:count]
        tokens = self.evaluation.tokens[:count].astype(float)
        prompts = self.evaluation.prompts
        prompts = other.evaluation.prompts if prompts is None else prompts
        weights = tokens if criterion == "loss" else np.ones(count)
        return paired(differences, weights, None if prompts is None else prompts[:count])


def by_reach(scores: Iterable[Score], criterion: Criterion) -> tuple[Score, ...]:
    """Those that came furthest first, and of these the best by the criterion."""
    return tuple(sorted(scores, key=lambda score: (-score.examples, score.order(criterion))))


def paired(
    differences: np.ndarray, weights: np.ndarray, prompts: np.ndarray | None = None
) -> tuple[float, float]:
    """``Σd/Σn`` and its standard error; infinite for a single example, or a single prompt."""
    total = weights.sum()
    mean = differences.sum() / total
    residual = differences - mean * weights
    if prompts is not None:
        residual = np.bincount(prompts, residual)
    count = len(residual)
    if count < 2:
        return float(mean), float("inf")
    return float(mean), float(np.sqrt(count / (count - 1) * (residual**2).sum()) / total)
