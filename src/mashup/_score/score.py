"""Score a library on a task by the strategy that is asked for."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mashup._score import store
from mashup._score.candidates import find_candidates
from mashup._score.choose import Strategy, run_strategy
from mashup._score.ledger import Ledger, Measured
from mashup._score.outcome import Outcome
from mashup._score.racing import FINALISTS
from mashup._score.result import Criterion, Score, by_reach
from mashup._score.scorer import Scorer, is_finite, not_finite
from mashup._score.scores import Cost, Scores
from mashup.checkpoint import check_base
from mashup.errors import InputError, Problem
from mashup.evaluate.answers import AnswerSet, FreeTextError, answer_set
from mashup.evaluate.evaluate import SAMPLES, sample_tokens
from mashup.library import Index, Library, fitting, scan, skipped
from mashup.library.leakage import leak_note
from mashup.model import AnyBase, Base, load_base, name_of
from mashup.progress import SILENT, Progress
from mashup.settings import CriterionName
from mashup.task import Task, Tokens, load_task, prompts_of

POOL = 4096  # rows of the task that are looked at for its answers


def score(
    library: Library | str | Path,
    base: AnyBase,
    task: Any,
    *,
    samples: int = SAMPLES,
    seed: int = 42,
    criterion: CriterionName = "auto",
    strategy: Strategy = "auto",
    finalists: int = FINALISTS,
    max_length: int = 1024,
    accept_base: bool = False,
    strict: bool = False,
    progress: Progress = SILENT,
) -> Scores:
    """Rank the checkpoints of a library by how well each fits a task.

    Args:
        library: a scanned library or its folder.
        base: a loaded base model or its name, or a transformers model in memory.
        task: a loaded task, or its dataset as :func:`mashup.load_task` takes it. Only its
            training rows are used.
        samples: how many training examples to score on, drawn with ``seed``.
        criterion: what to rank by: ``knowledge``, ``loss`` or ``accuracy``; ``auto`` is knowledge
            where the answers are a finite set, and loss where they are free text. ``loss`` and
            ``accuracy`` look at the right answers alone.
        strategy: how to spend forward passes; ``auto`` picks one and says why.
        finalists: how many checkpoints a strategy measures on the whole sample at least.
        max_length: the longest example in tokens.
        accept_base: also take adapters that name no base or another one, if they fit.
        strict: stop at broken checkpoints instead of skipping and counting them.
        progress: where to show a bar.

    Raises:
        InputError: no such base, no usable checkpoint, or unusable examples; broken checkpoints
            and ``strict``; ``knowledge`` of free text.
    """
    start = time.perf_counter()
    library = library if isinstance(library, Library) else scan(library)
    name = name_of(base)
    if isinstance(base, str | Path):
        check_base(base, (checkpoint.base for checkpoint in library.checkpoints))
    fit = fitting(library.checkpoints, name, accept_base=accept_base, strict=strict)
    task = task if isinstance(task, Task) else load_task(task)
    base = load_base(base)
    tokens = sample_tokens(base, task, samples, seed, max_length)
    long = min(samples, len(task.train)) - len(tokens)
    answers, free_text = None, ""
    if criterion in ("auto", "knowledge"):
        answers, free_text = _answers(base, task, tokens, seed)
    criterion = _resolved(criterion, free_text)
    for note in (*library.notes, *_notes(tokens, long), leak_note(fit.used, task)):
        if note:
            progress.say(note)
    with Index(library.root) as index, Ledger(library.root) as ledger:
        told = _tell((index.problem, ledger.problem), library.notes, progress)
        found = find_candidates(
            base, fit.used, index, accept_base=accept_base, strict=strict, progress=progress
        )
        if line := skipped((*fit.left_out, *found.left_out), len(library.checkpoints)):
            progress.say(line)
        scorer = Scorer(base, tokens, index, answers)
        own = _base_score(scorer, progress)
        chosen, reason, outcome = run_strategy(
            strategy, scorer, found.used, criterion, progress, finalists=finalists,
            history=lambda digests: _history(ledger, base, digests, task, criterion),
        )  # fmt: skip
        ledger.keep(_measured(base, task, one) for one in (own, *outcome.scores))
        _tell((index.problem, ledger.problem), told, progress)
    return Scores(
        own,
        by_reach(outcome.scores, criterion),
        criterion,
        base.name,
        base.digest,
        str(base.dtype),
        store.sample_digest(tokens),
        found.unchanged,
        (*fit.left_out, *found.left_out, *scorer.gone),
        time.perf_counter() - start,
        _cost(own, outcome, {one.digest for one in found.used}),
        chosen,
        reason,
        outcome.expected,
        {one.digest: one.sketch for one in found.used},
        long,
        free_text,
    )


def _answers(
    base: Base, task: Task, tokens: Sequence[Tokens], seed: int
) -> tuple[AnswerSet | None, str]:
    """The finite set of the task's answers; or none, and why."""
    try:
        return answer_set(base.tokenizer, tokens, task.drawn(seed)[:POOL]), ""
    except FreeTextError as error:
        return None, str(error)


def _resolved(criterion: CriterionName, free_text: str) -> Criterion:
    """What to rank by.

    Raises:
        InputError: knowledge of free text.
    """
    if criterion == "auto":
        return "loss" if free_text else "knowledge"
    if criterion == "knowledge" and free_text:
        expected = "at least two rows for each of 2 to 64 different answers"
        fix = "rank by loss, or give more rows"
        what = "no finite set of answers"
        raise InputError(Problem(what, "`criterion` knowledge", free_text, expected, fix))
    return criterion


def _history(
    ledger: Ledger, base: Base, digests: Sequence[str], task: Task, criterion: Criterion
) -> NDArray[np.float64]:
    """``(checkpoints × past tasks)``; the ledger keeps no knowledge, so no task is known by it."""
    if criterion == "knowledge":
        return np.empty((len(digests), 0))
    return ledger.matrix(base.digest, digests, task.digest, task.name, criterion)[0]


def _tell(
    problems: Iterable[Problem | None], told: Collection[str], progress: Progress
) -> Collection[str]:
    """Say what is not in ``told``; all that was said."""
    new = dict.fromkeys(str(problem) for problem in problems if problem)
    for text in new.keys() - set(told):
        progress.say(text)
    return {*told, *new}


def _notes(tokens: Sequence[Tokens], long: int) -> Iterator[str]:
    """What a user should know of the sample."""
    if long:
        yield f"left out {long} of {long + len(tokens)} examples of the sample: too long"
    prompts = len(set(prompts_of(tokens)))
    if prompts < len(tokens):
        yield (
            f"{len(tokens)} examples with {prompts} different prompts: {prompts} independent "
            "examples, as standard errors count them"
        )


def _measured(base: Base, task: Task, score: Score) -> Measured:
    return Measured(
        base.digest, score.digest, task.digest, task.name, score.examples, score.loss,
        score.accuracy,
    )  # fmt: skip


def _base_score(scorer: Scorer, progress: Progress) -> Score:
    count = len(scorer.tokens)
    with progress.bar("scoring the base", count) as advance:
        score = scorer.base_score(count, advance)
    if not is_finite(score):
        raise InputError(not_finite(score))
    return score


def _cost(own: Score, outcome: Outcome, digests: Collection[str]) -> Cost:
    """Copies cost nothing."""
    scores = {score.digest: score for score in (own, *outcome.scores)}.values()
    return Cost(
        outcome.forwards + sum(score.examples for score in scores),
        (1 + len(digests)) * own.examples,
        outcome.seconds + sum(score.seconds for score in scores),
    )
