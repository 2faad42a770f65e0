"""Score, Scores, Outcome: what was measured of one checkpoint, of a library, and by a strategy.

Where the answers are a finite set, *knowledge* decides: bits above the label prior
(:mod:`mashup.evaluate.knowledge`). For free text only the loss is known, in which the form of an
answer and the knowledge are one number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mashup.checkpoint import Checkpoint
from mashup.clusters import Row, cosine_rows
from mashup.errors import Problem
from mashup.results.statistics import paired_error
from mashup.tables import Shown, as_frame

if TYPE_CHECKING:  # they import torch and scipy
    from mashup.evaluate.evaluate import Evaluation
    from mashup.evaluate.knowledge import Knowledge

Criterion = Literal["loss", "accuracy", "knowledge"]

_DRAWS = 1000  # of the bootstrap
_ERRORS = 2.0  # paired standard errors within which two checkpoints count as equal


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
        """Nats per answer token."""
        return self.evaluation.loss

    @property
    def accuracy(self) -> float:
        """Share of the examples that are answered exactly right."""
        return self.evaluation.accuracy

    @property
    def examples(self) -> int:
        """How many of the sample's examples, from its beginning."""
        return len(self.evaluation.losses)

    @cached_property
    def knowledge(self) -> Knowledge | None:
        """Form and knowledge; None for free text, and for fewer than two examples."""
        logs, labels = self.evaluation.answers, self.evaluation.labels
        if logs is None or labels is None or len(labels) < 2:
            return None
        from mashup.evaluate.knowledge import knowledge

        return knowledge(logs, labels, self.evaluation.prompts)

    @property
    def _known(self) -> Knowledge:
        if self.knowledge is None:
            raise ValueError("no knowledge without a finite set of answers")
        return self.knowledge

    def value(self, criterion: Criterion) -> float:
        """The criterion's value, with the sign that makes lower better."""
        if criterion == "knowledge":
            return -self._known.bits
        return self.loss if criterion == "loss" else -self.accuracy

    def order(self, criterion: Criterion) -> tuple[float, float, str]:
        """What to sort by, best first: the criterion, then the loss, then the content."""
        return self.value(criterion), self.loss, self.digest

    def parts(self, criterion: Criterion) -> NDArray[np.floating]:
        """``(n,)`` what each example adds to the criterion; lower is better."""
        if criterion == "loss":
            return self.evaluation.losses
        if criterion == "knowledge":
            return -self._known.gained
        return 1.0 - self.evaluation.correct

    def against(self, other: Score, criterion: Criterion = "loss") -> tuple[float, float]:
        """Difference to ``other`` (negative is better) and its paired standard error.

        Over the examples that both were measured on, which are the first of the sample. The loss
        is a ratio of sums, nats over answer tokens; accuracy and knowledge have one unit for each
        example. See :func:`mashup.results.statistics.paired_error`.
        """
        count = min(self.examples, other.examples)
        differences = self.parts(criterion)[:count] - other.parts(criterion)[:count]
        tokens = self.evaluation.tokens[:count].astype(float)
        prompts = self.evaluation.prompts
        prompts = other.evaluation.prompts if prompts is None else prompts
        weights = tokens if criterion == "loss" else np.ones(count)
        return paired_error(differences, weights, None if prompts is None else prompts[:count])


def by_reach(scores: Iterable[Score], criterion: Criterion) -> tuple[Score, ...]:
    """Those with the most examples first, and among equals the best by the criterion."""
    return tuple(sorted(scores, key=lambda score: (-score.examples, score.order(criterion))))


@dataclass(frozen=True)
class Outcome:
    """What a strategy measured.

    Attributes:
        scores: each checkpoint at most once, with as many examples as it got; in no order.
        expected: checkpoints that were not measured, with what was expected of them.
    """

    scores: tuple[Score, ...]
    expected: Mapping[Checkpoint, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """What a choice costs without anything remembered.

    Attributes:
        forwards: examples sent through the model.
        exhaustive: forwards that every checkpoint on the whole sample would take.
        seconds: of scoring; what was remembered counts as it took when it was made.
    """

    forwards: float = 0.0
    exhaustive: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, repr=False)
class Scores(Shown):
    """The ranking of a library on a sample.

    Attributes:
        base: the base model's own score, on the whole sample.
        ranking: checkpoints, best first by ``criterion``: those with the whole sample, then
            those that were eliminated after a part of it.
        criterion: ``knowledge`` (bits above the label prior), ``loss`` (nats per answer token) or
            ``accuracy`` (exact answers).
        base_name, base_digest, base_dtype: the model that all were put on.
        sample_digest: of the token ids and answer marks, which include the template.
        unchanged: checkpoints that change nothing (B = 0); they are not in the ranking.
        left_out: checkpoints that were not scored, and why.
        seconds: wall-clock of this call.
        cost: without the cache.
        strategy, reason: how the checkpoints were measured, and why so.
        expected: checkpoints that were not measured at all, with what the strategy expected
            of them, in its own unit (lower is better).
        sketches: of the checkpoints' deltas, by digest (:mod:`mashup.similarity`).
        long: how many examples were left out since they are too long.
        free_text: why the answers are no finite set, so that knowledge cannot be measured; ""
            where they are one, or where the criterion does not ask.
        leaks: sentences on checkpoints that were trained on rows of the sample or on held-out
            rows, and on those of which that is not known.
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
    cost: Cost = Cost()
    strategy: str = "exhaustive"
    reason: str = ""
    expected: Mapping[Checkpoint, float] = field(default_factory=dict)
    sketches: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    long: int = 0
    free_text: str = ""
    leaks: tuple[str, ...] = ()

    def to_pandas(self) -> Any:
        """A ``DataFrame`` with a row for each checkpoint and one for the base, best first."""
        return as_frame([{k: v for k, v in row.items() if k != "losses"} for row in self.rows()])

    @property
    def _title(self) -> str:
        count, on = len(self.ranking), f"{self.examples} examples"
        return f"Scores: {count} checkpoints on {on}, by {self.criterion}, base {self.base_name}"

    def _shown(self) -> list[dict[str, Any]]:
        names = ("name", "examples", "loss", "accuracy", "difference", "standard_error")
        return [{name: row[name] for name in names} for row in self.rows()]

    @property
    def examples(self) -> int:
        """Examples of the sample."""
        return self.base.examples

    @property
    def prompts(self) -> int:
        """Different prompts of the sample, which is the number of independent examples."""
        known = self.base.evaluation.prompts
        return self.examples if known is None else len(np.unique(known))

    @property
    def looked_at(self) -> int:
        """Checkpoints of different content that were measured on at least a part of the sample."""
        return len({score.digest for score in self.ranking})

    @property
    def finalists(self) -> tuple[Score, ...]:
        """Those that were measured on the whole sample: only they can be chosen."""
        return tuple(score for score in self.ranking if score.examples == self.examples)

    @property
    def rivals(self) -> tuple[Score, ...]:
        """Those within two paired standard errors of the best; copies of it are no rivals."""
        if not self.ranking:
            return ()
        best, *others = self.ranking
        found = []
        for score in others:
            difference, error = score.against(best, self.criterion)
            if score.digest != best.digest and difference <= _ERRORS * error:
                found.append(score)
        return tuple(found)

    def cosines(self, digests: Sequence[str]) -> Row:
        """Cosines between the deltas of checkpoints, estimated from sketches, by ``digests``."""
        return cosine_rows(np.stack([self.sketches[digest] for digest in digests]))

    @cached_property
    def confidence(self) -> float:
        """Share of bootstrap draws of the prompts in which the first finalist is first again.

        Copies of it count as it. Eliminated checkpoints are not drawn; ``rivals`` covers them.
        """
        finalists = self.finalists
        if not finalists:
            return math.nan
        size = self.prompts
        counts = np.random.default_rng(0).multinomial(size, np.full(size, 1 / size), _DRAWS)
        known = self.base.evaluation.prompts
        parts = [score.parts(self.criterion) for score in finalists]
        sums = counts @ np.array([p if known is None else np.bincount(known, p) for p in parts]).T
        firsts = sums.argmin(1)
        return float(np.mean([finalists[n].digest == finalists[0].digest for n in firsts]))

    def rows(self) -> list[dict[str, Any]]:
        """One JSON-able row for each checkpoint and for the base, best first."""
        return [self._row(score) for score in (*self.ranking, self.base)]

    def _row(self, score: Score) -> dict[str, Any]:
        difference, error = score.against(self.base, self.criterion)
        known = score.knowledge
        return {
            "name": score.name,
            "path": str(score.checkpoint.path) if score.checkpoint else self.base_name,
            "digest": score.digest or self.base_digest,
            "examples": score.examples,
            "loss": score.loss,
            "accuracy": score.accuracy,
            "form": known.form_bits if known else None,
            "knowledge": known.bits if known else None,
            "knowledge_error": known.error if known else None,
            "difference": difference,
            "standard_error": error if math.isfinite(error) else None,
            "seconds": score.seconds,
            "cached": score.cached,
            "losses": score.evaluation.losses.tolist(),
        }
