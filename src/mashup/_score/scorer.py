"""Scorer: checkpoints on the first examples of one sample, every result kept by content.

The base is loaded once. What was measured before is read from the library's index, example by
example. Everything that would change a number is in the key of a result, and nothing else.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mashup._score.candidates import Candidate, changed, check_content
from mashup._score.packing import evaluate_packed, pack_size
from mashup._score.scores import Score
from mashup.delta import Delta
from mashup.errors import InputError, Problem
from mashup.evaluate.answers import AnswerSet, as_tree, evaluate_answers, evaluate_apart
from mashup.evaluate.batches import Batch
from mashup.evaluate.continued import continues, evaluate_continued
from mashup.evaluate.evaluate import Evaluation, evaluate, plain_batches, vocabulary_of
from mashup.evaluate.prefix import shared_prefix, with_prefix
from mashup.files import digest_of
from mashup.library import Index
from mashup.library.index import Loss
from mashup.model import Base, applied, read_change
from mashup.progress import NO_BAR, Advance, Bar, is_tenth
from mashup.task import Tokens, prompts_of

_CODE = 4  # raise it when the same inputs would give other numbers
#: Checkpoints from which a trial of pack sizes pays for itself.
WORTH = 16
#: Devices on which one adapter at a time is fastest. Two cores with SmolLM2-135M and 8 examples:
#: 4 adapters in a pass took 0.88 and 0.82 of the time of one after the other, 2 took 0.93 and 0.89.
ALONE = ("cpu",)


def example_key(tokens: Tokens, answers: Sequence[tuple[int, ...]] = ()) -> str:
    """Key of one example, and of the set of answers that are scored on it."""
    return digest_of(*tokens.keys, *([answers] if answers else []))


def model_key(base: Base, checkpoint: str) -> str:
    """Key of a base with a checkpoint on it; ``checkpoint`` is its digest, "" for the base."""
    computed = (base.digest, str(base.dtype), base.device.type, *base.asked.values())
    return digest_of(_CODE, *computed, checkpoint)


@dataclass
class Scorer:
    """Everything that stays the same from checkpoint to checkpoint.

    Attributes:
        base: the loaded base.
        tokens: of the sample, in the one order in which all checkpoints meet its examples.
        index: what the library remembers.
        answers: the finite set of answers, each of which gets a probability; None for free text.
        gone: problems of checkpoints that could be read before and cannot be scored any more.
    """

    base: Base
    tokens: tuple[Tokens, ...]
    index: Index
    answers: AnswerSet | None = None
    gone: list[Problem] = field(default_factory=list)
    _made: dict[tuple[int, ...], tuple[Batch, ...]] = field(default_factory=dict)

    def base_score(self, count: int, advance: Advance = NO_BAR) -> Score:
        """The base itself on the first ``count`` examples."""
        return self._score(None, count, advance)

    def scores(self, candidates: Iterable[Candidate], count: int, bar: Bar = NO_BAR) -> list[Score]:
        """Checkpoints on the first ``count`` examples; what is known is not evaluated again.

        A checkpoint that changed or went away meanwhile, or whose losses are not finite, is
        skipped. The reason is added to ``gone``, and nothing wrong is kept. The bar shows the
        least loss so far after each tenth of the checkpoints.
        """
        candidates = list(candidates)
        made: list[Score] = []
        for tried, candidate in enumerate(self._packed(candidates, count), 1):
            score = self._try(candidate, count, bar)
            made += [score] if score else []
            if made and len(candidates) > 1 and is_tenth(tried, len(candidates)):
                best = min(made, key=lambda one: one.loss)
                done = f"{tried} of {len(candidates)} checkpoints on {count} examples"
                bar.tell(f"{done}, least loss so far {best.loss:.4f} ({best.name})")
        return made

    def _try(self, candidate: Candidate, count: int, advance: Advance) -> Score | None:
        try:
            score = self._score(candidate, count, advance)
        except InputError as error:
            self.gone += error.problems
            return None
        if not is_finite(score):
            self.gone.append(not_finite(score))
            return None
        return score

    def _score(self, candidate: Candidate | None, count: int, advance: Advance) -> Score:
        """One checkpoint, or the base: what is known, and an evaluation of what is missing."""
        digest, keys = _digest(candidate), self._keys[:count]
        known = self._known(digest, count)
        missing = [row for row, key in enumerate(keys) if key not in known]
        advance(count - len(missing))
        if missing:
            known |= self._evaluate(candidate, missing, advance)
        losses = [known[key] for key in keys]
        logs = np.stack([np.frombuffer(one.answers) for one in losses]) if self.answers else None
        result = Evaluation(
            np.array([one.loss for one in losses]),
            np.array([one.answer_count for one in self.tokens[:count]], np.int64),
            np.array([one.correct for one in losses], bool),
            logs,
            self.answers.labels[:count] if self.answers else None,
            np.array(self._prompts[:count], np.int64),
        )
        seconds = sum(one.seconds for one in losses)
        checkpoint = candidate.checkpoint if candidate else None
        return Score(checkpoint, result, digest, seconds, cached=not missing)

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
        return self._keep(candidate, rows, result, time.perf_counter() - start)

    def _run(self, rows: Sequence[int], batches: Sequence[Batch], advance: Advance) -> Evaluation:
        """The model as it is now, on some examples."""
        model = self.base.model
        if not self.answers:
            return evaluate(model, batches, advance=advance)
        answers = self.answers.of(rows)
        if self.is_tree:
            return evaluate_answers(model, batches, answers, advance=advance)[0]
        tokens, shapes = [self.tokens[row] for row in rows], self._shapes
        if self.is_continued:
            return evaluate_continued(model, tokens, answers, *shapes, advance)
        advance(len(batches))
        return evaluate_apart(model, tokens, answers, *shapes)

    def read(self, candidate: Candidate) -> Delta:
        """The delta of the content that was found, since its key must not answer for another.

        Raises:
            InputError: the content is another, or cannot be read any more.
        """
        path = candidate.checkpoint.path
        check_content(path, candidate.digest, self.index)
        try:
            return read_change(self.base.model, path)
        except (InputError, OSError) as error:
            found = error.problems[0].what if isinstance(error, InputError) else str(error)
            raise InputError(changed(path, found)) from error

    # What is remembered

    @cached_property
    def _keys(self) -> list[str]:
        answers = self.answers.tokens if self.answers else ()
        return [example_key(one, answers) for one in self.tokens]

    @cached_property
    def _prompts(self) -> list[int]:
        return prompts_of(self.tokens)

    def _known(self, digest: str, count: int) -> dict[str, Loss]:
        """What was measured before on the first ``count`` examples, by key."""
        found = self.index.losses.get(model_key(self.base, digest), self._keys[:count])
        size = 8 * len(self.answers) if self.answers else 0
        return {key: one for key, one in found.items() if len(one.answers) == size}

    def _keep(
        self, candidate: Candidate | None, rows: Sequence[int], result: Evaluation, seconds: float
    ) -> dict[str, Loss]:
        """Remember what a checkpoint, or the base, gave on ``rows``, which took ``seconds``.

        Raises:
            InputError: the checkpoint's files changed since they were found. What was evaluated
                may be something else, so nothing is kept.
        """
        if candidate:
            check_content(candidate.checkpoint.path, candidate.digest, self.index)
        each = seconds / len(rows)
        made = [
            Loss(float(result.losses[row]), bool(result.correct[row]), each, _packed(result, row))
            for row in range(len(rows))
        ]
        losses = {self._keys[row]: one for row, one in zip(rows, made, strict=True)}
        self.index.losses.keep(model_key(self.base, _digest(candidate)), losses)
        return losses

    # Batches

    def batches(self, rows: tuple[int, ...]) -> tuple[Batch, ...]:
        """Made once for all checkpoints that miss the same examples."""
        if rows not in self._made:
            plain = plain_batches(self.base, [self.tokens[row] for row in rows])
            self._made[rows] = with_prefix(plain, self._prefix, self.base.device.type)
        return self._made[rows]

    @cached_property
    def _prefix(self) -> int:
        """Tokens that all examples of the sample begin with, if the base can run them once."""
        return shared_prefix(self.base.model, plain_batches(self.base, self.tokens))

    @cached_property
    def is_tree(self) -> bool:
        """Whether all answers are run in one pass, which a trial on the base decides."""
        if not self.answers:
            return False
        return as_tree(self.base.model, self.tokens, self.answers, *self._shapes)

    @cached_property
    def is_continued(self) -> bool:
        """Whether answers go on from a prompt with pictures that is run once, by such a trial."""
        if not self.answers:
            return False
        return continues(self.base.model, self.tokens, self.answers, *self._shapes)

    @property
    def _shapes(self) -> tuple[int, int]:
        """Token id to pad with, and the size of the vocabulary."""
        return self.base.pad_id, vocabulary_of(self.base)

    # Several checkpoints in one pass, where the device gains by it

    def _packed(self, candidates: Sequence[Candidate], count: int) -> Iterator[Candidate]:
        """The candidates in order, each pack of them measured before its first one is yielded.

        A checkpoint that cannot be packed or read is yielded as it is.
        """
        size = self._pack_size(candidates, count)
        for start in range(0, len(candidates), size):
            some = candidates[start : start + size]
            if size > 1:
                self._measure(some, count)
            yield from some

    def _pack_size(self, candidates: Sequence[Candidate], count: int) -> int:
        apart = self.answers is not None and not self.is_tree
        apart = apart or any(one.seen for one in self.tokens)
        if len(candidates) < WORTH or self.base.device.type in ALONE or apart:
            return 1
        for one in candidates:
            rows, delta = self._missing(one, count), self._read_if_possible(one)
            if rows and delta:
                return pack_size(self.base.model, delta, self.batches(rows))
        return 1

    def _measure(self, some: Sequence[Candidate], count: int) -> None:
        """Evaluate and keep, in one pass, the checkpoints that miss the same rows as the first."""
        start = time.perf_counter()
        rows = self._missing(some[0], count)
        alike = [one for one in some if rows and self._missing(one, count) == rows]
        read = [(one, delta) for one in alike if (delta := self._read_if_possible(one))]
        if len(read) < 2:
            return
        answers = self.answers.of(rows) if self.answers else None
        deltas = [delta for _, delta in read]
        found = evaluate_packed(self.base.model, deltas, self.batches(rows), answers)
        seconds = (time.perf_counter() - start) / len(read)
        for (one, _), result in zip(read, found, strict=True):
            with contextlib.suppress(InputError):  # it changed: scoring it gives the reason
                self._keep(one, rows, result, seconds)

    def _missing(self, candidate: Candidate, count: int) -> tuple[int, ...]:
        """Which of the first ``count`` examples a checkpoint was never measured on."""
        known = self._known(candidate.digest, count)
        return tuple(row for row, key in enumerate(self._keys[:count]) if key not in known)

    def _read_if_possible(self, one: Candidate) -> Delta | None:
        try:
            return self.read(one)
        except InputError:
            return None


def _digest(candidate: Candidate | None) -> str:
    return candidate.digest if candidate else ""


def _packed(result: Evaluation, row: int) -> bytes:
    """The log-probabilities of all answers as the index keeps them; empty for free text."""
    return b"" if result.answers is None else result.answers[row].astype(np.float64).tobytes()


def is_finite(score: Score) -> bool:
    """Whether the loss, and the log-probability of every answer, is a finite number."""
    logs = score.evaluation.answers
    return math.isfinite(score.loss) and (logs is None or bool(np.isfinite(logs).all()))


def not_finite(score: Score) -> Problem:
    """The problem of a score that is not finite."""
    where = str(score.checkpoint.path) if score.checkpoint else "base model"
    found, fix = f"loss {score.loss}", "remove it from the library, or give `dtype` float32"
    return Problem("loss is not finite", where, found, "a number", fix)
