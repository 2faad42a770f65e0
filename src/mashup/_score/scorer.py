"""Score one checkpoint on the first examples of the sample: base loaded once, losses kept."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mashup._score import store
from mashup._score.candidates import Candidate, changed, check_content
from mashup._score.packs import packs
from mashup._score.result import Score
from mashup.delta import Delta
from mashup.errors import InputError, Problem
from mashup.evaluate.answers import AnswerSet, as_tree, evaluate_answers, evaluate_apart
from mashup.evaluate.batches import Batch
from mashup.evaluate.evaluate import Evaluation, evaluate, plain_batches, vocabulary_of
from mashup.evaluate.prefix import shared_prefix, with_prefix
from mashup.library import Index
from mashup.library.index import Loss
from mashup.model import Base, applied, read_change
from mashup.progress import NO_BAR, Advance, Bar, is_tenth
from mashup.task import Tokens, prompts_of


@dataclass
class Scorer:
    """Everything that stays the same from checkpoint to checkpoint.

    Attributes:
        tokens: of the sample, in the one order in which all checkpoints meet its examples.
        answers: the finite set of answers, each of which gets a probability; None of free text.
        gone: checkpoints that could not be scored any more, and why.
    """

    base: Base
    tokens: tuple[Tokens, ...]
    index: Index
    answers: AnswerSet | None = None
    gone: list[Problem] = field(default_factory=list)
    _made: dict[tuple[int, ...], tuple[Batch, ...]] = field(default_factory=dict)

    @cached_property
    def _keys(self) -> list[str]:
        answers = self.answers.tokens if self.answers else ()
        return [store.example_key(one, answers) for one in self.tokens]

    @cached_property
    def _prompts(self) -> list[int]:
        return prompts_of(self.tokens)

    def base_score(self, count: int, advance: Advance = NO_BAR) -> Score:
        """The base itself on the first ``count`` examples."""
        return self._score(None, "", count, advance)

    def scores(self, candidates: Iterable[Candidate], count: int, bar: Bar = NO_BAR) -> list[Score]:
        """Checkpoints on the first ``count`` examples; what is known is not evaluated again.

        The bar is told each tenth of them, with the least loss so far. Those with losses that are
        no numbers are missing, and those that changed or went away since they were found: why is
        added to ``gone``, and nothing wrong is kept.
        """
        candidates = list(candidates)
        made: list[Score] = []
        ready = itertools.chain.from_iterable(packs(self, candidates, count))
        for tried, candidate in enumerate(ready, 1):
            score = self._try(candidate, count, bar)
            made += [score] if score else []
            if made and len(candidates) > 1 and is_tenth(tried, len(candidates)):
                best = min(made, key=lambda one: one.loss)
                done = f"{tried} of {len(candidates)} checkpoints on {count} examples"
                bar.tell(f"{done}, least loss so far {best.loss:.4f} ({best.name})")
        return made

    def missing(self, candidate: Candidate, count: int) -> tuple[int, ...]:
        """Which of the first ``count`` examples a checkpoint was never measured on."""
        known = self._known(candidate.digest, count)
        return tuple(row for row, key in enumerate(self._keys[:count]) if key not in known)

    def _known(self, digest: str, count: int) -> dict[str, Loss]:
        """What was measured before on the first ``count`` examples, by key."""
        found = self.index.losses.get(store.model_key(self.base, digest), self._keys[:count])
        size = 8 * len(self.answers) if self.answers else 0
        return {key: one for key, one in found.items() if len(one.answers) == size}

    def keep(
        self, candidate: Candidate | None, rows: Sequence[int], result: Evaluation, seconds: float
    ) -> dict[str, Loss]:
        """Remember what a checkpoint, or the base, gave on ``rows``, which took ``seconds``.

        Raises:
            InputError: the checkpoint's files are not those any more that were found; what was
                evaluated may be something else, so nothing is kept.
        """
        if candidate:
            check_content(candidate.checkpoint.path, candidate.digest, self.index)
        each = seconds / len(rows)
        made = [
            Loss(float(result.losses[row]), bool(result.correct[row]), each, _packed(result, row))
            for row in range(len(rows))
        ]
        losses = {self._keys[row]: one for row, one in zip(rows, made, strict=True)}
        digest = candidate.digest if candidate else ""
        self.index.losses.keep(store.model_key(self.base, digest), losses)
        return losses

    def _try(self, candidate: Candidate, count: int, advance: Advance) -> Score | None:
        try:
            score = self._score(candidate, candidate.digest, count, advance)
        except InputError as error:
            self.gone += error.problems
            return None
        if not is_finite(score):
            self.gone.append(not_finite(score))
            return None
        return score

    def _score(
        self, candidate: Candidate | None, digest: str, count: int, advance: Advance
    ) -> Score:
        keys, known = self._keys[:count], self._known(digest, count)
        missing = [row for row, key in enumerate(keys) if key not in known]
        advance(count - len(missing))
        if missing:
            known |= self._evaluate(candidate, missing, advance)
        losses = [known[key] for key in keys]
        result = Evaluation(
            np.array([one.loss for one in losses]),
            np.array([one.answer_count for one in self.tokens[:count]], np.int64),
            np.array([one.correct for one in losses], bool),
            *self._of_all(losses),
            np.array(self._prompts[:count], np.int64),
        )
        seconds = sum(one.seconds for one in losses)
        checkpoint = candidate.checkpoint if candidate else None
        return Score(checkpoint, result, digest, seconds, cached=not missing)

    def _of_all(self, losses: Sequence[Loss]) -> tuple[Any, Any]:
        """Log-probabilities of all answers, and which is right; nothing of free text."""
        if not self.answers:
            return None, None
        logs = np.stack([np.frombuffer(one.answers) for one in losses])
        return logs, self.answers.labels[: len(losses)]

    def _evaluate(
        self, candidate: Candidate | None, rows: Sequence[int], advance: Advance
    ) -> dict[str, Loss]:
        start = time.perf_counter()
        batches = self.batches(tuple(rows))
        sizes = iter([len(batch.rows) for batch in batches])
        delta = self.read(candidate) if candidate else Delta({})

        def batch_done(parts: int = 1) -> None:
            advance(sum(next(sizes) for _ in range(parts)))

        with applied(self.base.model, delta):
            result = self._run(rows, batches, batch_done)
        return self.keep(candidate, rows, result, time.perf_counter() - start)

    def _run(self, rows: Sequence[int], batches: Sequence[Batch], advance: Advance) -> Evaluation:
        """The model as it is now, on some examples."""
        model = self.base.model
        if not self.answers:
            return evaluate(model, batches, advance=advance)
        answers = self.answers.of(rows)
        if self.is_tree:
            return evaluate_answers(model, batches, answers, advance=advance)[0]
        advance(len(batches))
        tokens = [self.tokens[row] for row in rows]
        return evaluate_apart(model, tokens, answers, self.base.pad_id, vocabulary_of(self.base))

    @cached_property
    def is_tree(self) -> bool:
        """Whether all answers are run in one pass, which a trial on the base decides."""
        if not self.answers:
            return False
        vocabulary = vocabulary_of(self.base)
        return as_tree(self.base.model, self.tokens, self.answers, self.base.pad_id, vocabulary)

    def batches(self, rows: tuple[int, ...]) -> tuple[Batch, ...]:
        """Made once for all checkpoints that miss the same examples."""
        if rows not in self._made:
            plain = plain_batches(self.base, [self.tokens[row] for row in rows])
            self._made[rows] = with_prefix(plain, self._prefix, self.base.device.type)
        return self._made[rows]

    @cached_property
    def _prefix(self) -> int:
        """What all examples of the sample begin with, if the base can run it once."""
        return shared_prefix(self.base.model, plain_batches(self.base, self.tokens))

    def read(self, candidate: Candidate) -> Delta:
        """The delta of the content that was found: the key must not answer for another.

        Raises:
            InputError: the content is another, or cannot be read any more.
        """
        path = candidate.checkpoint.path
        check_content(candidate.checkpoint.path, candidate.digest, self.index)
        try:
            return read_change(self.base.model, path)
        except (InputError, OSError) as error:
            found = error.problems[0].what if isinstance(error, InputError) else str(error)
            raise InputError(changed(path, found)) from error


def is_finite(score: Score) -> bool:
    """Whether the loss, and the log-probability of every answer, is a number."""
    logs = score.evaluation.answers
    return math.isfinite(score.loss) and (logs is None or bool(np.isfinite(logs).all()))


def _packed(result: Evaluation, row: int) -> bytes:
    return b"" if result.answers is None else result.answers[row].astype(np.float64).tobytes()


def not_finite(score: Score) -> Problem:
    where = str(score.checkpoint.path) if score.checkpoint else "base model"
    found, fix = f"loss {score.loss}", "leave it out, or give `dtype` float32"
    return Problem("loss is not finite", where, found, "a number", fix)
