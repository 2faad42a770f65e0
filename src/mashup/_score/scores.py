"""Scores: the ranking of a library, what it cost and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mashup._score.result import Criterion, Score
from mashup.checkpoint import Checkpoint
from mashup.errors import Problem
from mashup.similarity.clusters import Row, cosine_rows
from mashup.tables import as_frame, as_html, as_text

_DRAWS = 1000  # of the bootstrap
_ERRORS = 2.0  # paired standard errors within which two checkpoints are not told apart


@dataclass(frozen=True)
class Cost:
    """What a choice costs without anything remembered.

    Attributes:
        forwards: forward-equivalents: examples sent through the model once; a backward pass
            counts as two more.
        exhaustive: forwards that every checkpoint on the whole sample would take.
        seconds: of scoring; what was remembered counts as it took when it was made.
    """

    forwards: float = 0.0
    exhaustive: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, repr=False)
class Scores:
    """The ranking of a library on a sample.

    Attributes:
        base: the base model's own score, on the whole sample.
        ranking: checkpoints, best first by ``criterion``: those with the whole sample, then
            those that were given up after a part of it.
        criterion: ``knowledge`` (bits above the label prior), ``loss`` (nats per answer token) or
            ``accuracy`` (exact answers).
        free_text: why the answers are no finite set, so that nothing is known of knowledge; ""
            where they are one, or nobody asked.
        base_name, base_digest, base_dtype: the model that all were put on.
        sample_digest: of the token ids and answer marks; the template is in it.
        unchanged: checkpoints that change nothing (B = 0), left out of the ranking.
        left_out: checkpoints that were not scored, and why.
        long: how many examples were left out since they are too long.
        seconds: wall-clock of this call.
        cost: without the cache.
        strategy, reason: how the checkpoints were measured, and why so.
        expected: checkpoints that were not measured at all, with what the strategy expected
            of them, in its own unit (lower is better).
        sketches: of the checkpoints' deltas, by digest (:mod:`mashup.similarity`).
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

    def __repr__(self) -> str:
        return as_text(self._title, self._shown())

    def _repr_html_(self) -> str:
        return as_html(self._title, self._shown())

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
        return self.base.examples

    @property
    def prompts(self) -> int:
        """How many different prompts the sample has: so many examples are independent."""
        known = self.base.evaluation.prompts
        return self.examples if known is None else len(np.unique(known))

    @property
    def finalists(self) -> tuple[Score, ...]:
        """Those that were measured on the whole sample: only they can be chosen."""
        return tuple(score for score in self.ranking if score.examples == self.examples)

    @property
    def rivals(self) -> tuple[Score, ...]:
        """Those that two paired standard errors do not tell from the best, copies left out."""
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
        """Of the deltas of checkpoints, as sketches tell them, in the order of ``digests``."""
        return cosine_rows(np.stack([self.sketches[digest] for digest in digests]))

    @cached_property
    def confidence(self) -> float:
        """Share of bootstrap draws of the prompts in which the first finalist is first again.

        Copies of it count as it. Checkpoints that were given up earlier are not in it: of
        those, ``rivals`` tells.
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
            "examples": score.examples,
            "loss": score.loss,
            "accuracy": score.accuracy,
            "form": score.knowledge.form_bits if score.knowledge else None,
            "knowledge": score.knowledge.bits if score.knowledge else None,
            "knowledge_error": score.knowledge_error if score.knowledge else None,
            "difference": difference,
            "standard_error": error if math.isfinite(error) else None,
            "seconds": score.seconds,
            "cached": score.cached,
            "losses": score.evaluation.losses.tolist(),
        }
