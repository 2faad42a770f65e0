"""Score every checkpoint on the whole sample: base loaded once, deltas put on and taken off."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from mashup.checkpoint import Checkpoint, read_adapter, read_adapter_config
from mashup.delta import Delta, read_delta
from mashup.errors import InputError, Problem
from mashup.library import Index, Library, adapter_digest, fitting, other_weights, scan
from mashup.model import Base, adapter_problems, applied, load_base
from mashup.model.fit import OTHER_BASE
from mashup.progress import SILENT, Advance, Progress
from mashup.score import store
from mashup.score.batches import Batch, make_batches
from mashup.score.evaluate import evaluate
from mashup.score.result import Criterion, Score, Scores
from mashup.task import Task, Tokens, load_task, tokenize

SAMPLES = 256  # examples; arXiv 2603.10156 scores on as many


def score(
    library: Library | str | Path,
    base: Base | str,
    task: Task | str | Path,
    *,
    samples: int = SAMPLES,
    seed: int = 42,
    criterion: Criterion = "loss",
    max_length: int = 1024,
    accept_base: bool = False,
    skip_bad: bool = False,
    progress: Progress = SILENT,
) -> Scores:
    """Rank the checkpoints of a library by how well each fits a task.

    Args:
        library: a scanned library or its folder.
        base: a loaded base model or its name.
        task: a loaded task or its dataset. Only its training rows are used.
        samples: how many training examples to score on, drawn with ``seed``.
        criterion: what to rank by, ``loss`` or ``accuracy``.
        max_length: the longest example in tokens.
        accept_base: also take adapters that name no base or another one, if they fit.
        skip_bad: leave broken checkpoints out instead of raising.
        progress: where to show a bar.

    Raises:
        InputError: no usable checkpoint, broken checkpoints, or unusable examples.
    """
    start = time.perf_counter()
    library = library if isinstance(library, Library) else scan(library)
    name = base if isinstance(base, str) else base.name
    fit = fitting(library.checkpoints, name, accept_base=accept_base, skip_bad=skip_bad)
    task = task if isinstance(task, Task) else load_task(task)
    base = load_base(base) if isinstance(base, str) else base
    used, others = _check_modules(base, fit.used, accept_base, skip_bad)
    tokens = sample_tokens(base, task, samples, seed, max_length)
    with Index(library.root) as index:
        scorer = _Scorer(base, tokens, index, progress)
        scores = scorer.run(used, criterion, skip_bad)
    return replace(
        scores,
        left_out=(*fit.left_out, *others, *scores.left_out),
        seconds=time.perf_counter() - start,
    )


def sample_tokens(
    base: Base, task: Task, samples: int, seed: int, max_length: int
) -> tuple[Tokens, ...]:
    """Tokens of the sample that a task is scored on."""
    examples = task.sample(samples, seed)
    longest = min(max_length, base.context)
    return tokenize(base.tokenizer, examples, max_length=longest, where=f"{task.name} (sample)")


def batches_for(base: Base, tokens: Sequence[Tokens]) -> tuple[Batch, ...]:
    """Length-sorted batches of ``tokens`` for ``base``."""
    return make_batches(tokens, base.pad_id, base.model.config.get_text_config().vocab_size)


def _check_modules(
    base: Base, checkpoints: Sequence[Checkpoint], accept_base: bool, skip_bad: bool
) -> tuple[tuple[Checkpoint, ...], tuple[Problem, ...]]:
    """Those whose modules fit ``base``, and the problems of the others.

    An adapter none of whose modules fits is simply for another base; one that fits in
    part would be half loaded by other tools, so it is an error.
    """
    used: list[Checkpoint] = []
    others: list[Problem] = []
    partial: list[Problem] = []
    for checkpoint in checkpoints:
        other = other_weights(checkpoint.path, base.digest, str(base.dtype))
        if other and not accept_base:
            others.append(other)
            continue
        config = read_adapter_config(checkpoint.path)
        adapter = read_adapter(checkpoint.path, config)
        found = adapter_problems(base.model, adapter, config, str(checkpoint.path))
        if not found:
            used.append(checkpoint)
        elif found[0].what == OTHER_BASE:
            others += found
        else:
            partial += found
    if partial and not skip_bad:
        raise InputError(*partial)
    if not used:
        raise InputError(*others, *partial)
    return tuple(used), (*others, *partial)


@dataclass(frozen=True)
class _Scorer:
    """Everything that stays the same from checkpoint to checkpoint."""

    base: Base
    tokens: tuple[Tokens, ...]
    index: Index
    progress: Progress

    def run(
        self, checkpoints: Sequence[Checkpoint], criterion: Criterion, skip_bad: bool
    ) -> Scores:
        digests, unchanged, bad = self._read_all(checkpoints)
        if bad and not skip_bad:
            raise InputError(*bad)
        batches = batches_for(self.base, self.tokens)
        with self.progress.bar("scoring", len(batches) * (len(digests) + 1)) as advance:
            base = self._one(None, "", batches, advance)
            ranking = [self._one(c, d, batches, advance) for c, d in digests.items()]
        if not math.isfinite(base.loss):
            raise InputError(_not_finite(base))
        diverged = tuple(_not_finite(score) for score in ranking if not math.isfinite(score.loss))
        ranking = [score for score in ranking if math.isfinite(score.loss)]
        ranking.sort(key=lambda s: (s.value(criterion), s.loss, s.digest))
        return Scores(
            base,
            tuple(ranking),
            criterion,
            self.base.name,
            self.base.digest,
            str(self.base.dtype),
            self._sample,
            tuple(unchanged),
            (*bad, *diverged),
            full_seconds=sum(s.seconds for s in (base, *ranking)),
        )

    @cached_property
    def _sample(self) -> str:
        return store.sample_digest(self.tokens)

    def _read_all(
        self, checkpoints: Sequence[Checkpoint]
    ) -> tuple[dict[Checkpoint, str], list[Checkpoint], list[Problem]]:
        """Digests of the good ones, those that change nothing, and all problems, before any work.

        Weights are read twice, here and when they are scored, so that memory holds one adapter.
        """
        digests: dict[Checkpoint, str] = {}
        unchanged: list[Checkpoint] = []
        bad: list[Problem] = []
        with self.progress.bar("reading", len(checkpoints)) as advance:
            for checkpoint in checkpoints:
                advance()
                try:
                    digest = adapter_digest(checkpoint.path, self.index)
                    if not self._kept(digest) and read_delta(checkpoint.path).is_zero:
                        unchanged.append(checkpoint)
                        continue
                    digests[checkpoint] = digest
                except InputError as error:
                    bad += error.problems
        return digests, unchanged, bad

    def _kept(self, digest: str) -> str | None:
        return self.index.score(store.score_key(self.base, digest, self._sample))

    def _one(
        self,
        checkpoint: Checkpoint | None,
        digest: str,
        batches: Sequence[Batch],
        advance: Advance,
    ) -> Score:
        """Score one checkpoint, or the base when it is None; from the cache when it is there."""
        if kept := self._kept(digest):
            for _ in batches:
                advance()
            result, seconds = store.load(kept)
            return Score(checkpoint, result, digest, seconds, cached=True)
        start = time.perf_counter()
        delta = read_delta(checkpoint.path) if checkpoint else Delta({})
        with applied(self.base.model, delta):
            result = evaluate(self.base.model, batches, advance=advance)
        seconds = time.perf_counter() - start
        key = store.score_key(self.base, digest, self._sample)
        self.index.keep_score(key, store.dump(result, seconds))
        return Score(checkpoint, result, digest, seconds)


def _not_finite(score: Score) -> Problem:
    where = str(score.checkpoint.path) if score.checkpoint else "base model"
    found, fix = f"loss {score.loss}", "leave it out, or give --dtype float32"
    return Problem("loss is not finite", where, found, "a number", fix)
