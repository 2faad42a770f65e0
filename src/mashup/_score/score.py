"""Score a library on a task, by the strategy that was asked for or that costs least."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mashup._score.candidates import Candidate, find_candidates
from mashup._score.ledger import Ledger, Measured
from mashup._score.racing import FINALISTS, FIRST, first_rung, group_of, heats, planned, rungs
from mashup._score.recall import TASKS, looks, recall, tasks_known
from mashup._score.scorer import Scorer, is_finite, not_finite
from mashup._score.scores import Cost, Criterion, Outcome, Score, Scores, by_reach
from mashup.checkpoint import check_base
from mashup.errors import InputError, Problem
from mashup.evaluate.answers import AnswerSet, FreeTextError, task_answers
from mashup.evaluate.evaluate import sample_digest, sample_tokens
from mashup.faults import resolved
from mashup.library import Index, Library, fitting, scan, skipped
from mashup.library.leakage import leak_notes
from mashup.library.sources import fetched
from mashup.model import AnyBase, Base, load_base, name_of
from mashup.progress import SILENT, Progress
from mashup.settings import CriterionName, ScoreSettings, StrategyName
from mashup.task import Task, Tokens, load_task, prompts_of

_HALF = 0.5  # of the exhaustive forwards, which a race must save

#: Digests to ``(checkpoints × past tasks)``, NaN where nothing was measured.
History = Callable[[Sequence[str]], NDArray[np.floating]]


def score(
    library: Library | str | Path,
    base: AnyBase,
    task: Any,
    settings: ScoreSettings | None = None,
    *,
    samples: int | None = None,
    criterion: CriterionName | None = None,
    strategy: StrategyName | None = None,
    seed: int = 42,
    finalists: int = FINALISTS,
    max_length: int = 1024,
    accept_base: bool = False,
    strict: bool = False,
    progress: Progress = SILENT,
) -> Scores:
    """Rank the checkpoints of a library by how well each fits a task.

    Args:
        library: a scanned library, its folder, or a source (``hub:ORG``, ...).
        base: a loaded base model or its name, or a transformers model in memory.
        task: a loaded task, or its dataset as :func:`mashup.load_task` takes it. Only its
            training rows are used.
        settings: the three that follow in one object; by default those of
            :class:`mashup.ScoreSettings`. What it sets cannot be given as an argument as well.
        samples: how many training examples to score on (256).
        criterion: what to rank by: ``knowledge``, ``loss`` or ``accuracy``. ``auto``, the
            default, is knowledge where the answers are a finite set, and loss where they are free
            text. ``loss`` and ``accuracy`` look at the right answers alone.
        strategy: how to spend forward passes; ``auto``, the default, picks one and says why.
        seed: of the sample.
        finalists: how many checkpoints a strategy measures on the whole sample at least.
        max_length: the longest example in tokens.
        accept_base: also take adapters that name no base or another one, if they fit.
        strict: stop at broken checkpoints instead of skipping and counting them.
        progress: where to show a bar.

    Raises:
        UsageError: unknown, impossible or contradicting settings.
        InputError: no such base, no usable checkpoint, or unusable examples; broken checkpoints
            and ``strict``; ``knowledge`` of free text.
    """
    start = time.perf_counter()
    given = {"samples": samples, "criterion": criterion, "strategy": strategy}
    settings = resolved(ScoreSettings, settings, given, "score")
    library = library if isinstance(library, Library) else scan(library)
    name = name_of(base)
    if isinstance(base, str | Path):
        check_base(base, (checkpoint.base for checkpoint in library.checkpoints))
    fit = fitting(library.checkpoints, name, accept_base=accept_base, strict=strict)
    task = task if isinstance(task, Task) else load_task(task)
    base = load_base(base)
    tokens = sample_tokens(base, task, settings.samples, seed, max_length)
    long = min(settings.samples, len(task.train)) - len(tokens)
    ranked_by, answers, free_text = _answers(base, task, tokens, seed, settings.criterion)
    fit = fetched(library, fit, strict=strict, progress=progress)
    leaks = leak_notes(fit.used, task, task.sample(settings.samples, seed))
    for note in (*library.notes, *_notes(tokens, long), *(f"note: {leak}" for leak in leaks)):
        if note:
            progress.say(note)
    with Index(library.root) as index, Ledger(library.root) as ledger:
        said = _say((index.problem, ledger.problem), library.notes, progress)
        found = find_candidates(
            base, fit.used, index, accept_base=accept_base, strict=strict, progress=progress
        )
        if line := skipped((*fit.left_out, *found.left_out), len(library.checkpoints)):
            progress.say(line)
        scorer = Scorer(base, tokens, index, answers)
        own = _base_score(scorer, progress)
        chosen, reason, outcome = run_strategy(
            settings.strategy, scorer, found.used, ranked_by, progress, finalists=finalists,
            history=lambda digests: ledger.matrix(
                base.digest, digests, task.digest, task.name, ranked_by
            )[0],
        )  # fmt: skip
        ledger.keep(_measured(base, task, one) for one in (own, *outcome.scores))
        _say((index.problem, ledger.problem), said, progress)
    return Scores(
        base=own,
        ranking=by_reach(outcome.scores, ranked_by),
        criterion=ranked_by,
        base_name=base.name,
        base_digest=base.digest,
        base_dtype=str(base.dtype),
        sample_digest=sample_digest(tokens),
        unchanged=found.unchanged,
        left_out=(*fit.left_out, *found.left_out, *scorer.gone),
        seconds=time.perf_counter() - start,
        cost=_cost(own, outcome, {one.digest for one in found.used}),
        strategy=chosen,
        reason=reason,
        expected=outcome.expected,
        sketches={one.digest: one.sketch for one in found.used},
        long=long,
        free_text=free_text,
        leaks=leaks,
    )


def _answers(
    base: Base, task: Task, tokens: Sequence[Tokens], seed: int, criterion: CriterionName
) -> tuple[Criterion, AnswerSet | None, str]:
    """What to rank by; the finite set of answers, if it is needed; why there is none.

    Raises:
        InputError: knowledge of free text.
    """
    if criterion in ("loss", "accuracy"):
        return criterion, None, ""
    try:
        answers = task_answers(base, task, tokens, seed)
    except FreeTextError as error:
        if criterion == "auto":
            return "loss", None, str(error)
        expected = "at least two rows for each of 2 to 64 different answers"
        fix, where = "rank by loss, or give more rows", "`criterion` knowledge"
        problem = Problem("no finite set of answers", where, str(error), expected, fix)
        raise InputError(problem) from None
    return "knowledge", answers, ""


def _notes(tokens: Sequence[Tokens], long: int) -> Iterator[str]:
    """What a user should know about the sample."""
    if long:
        yield f"left out {long} of {long + len(tokens)} examples of the sample: too long"
    prompts = len(set(prompts_of(tokens)))
    if prompts < len(tokens):
        yield (
            f"{len(tokens)} examples with {prompts} different prompts: {prompts} independent "
            "examples, as standard errors count them"
        )


def _say(
    problems: Iterable[Problem | None], said: Collection[str], progress: Progress
) -> Collection[str]:
    """Say what was not said before; all that is said by now."""
    new = dict.fromkeys(str(problem) for problem in problems if problem)
    for text in new.keys() - set(said):
        progress.say(text)
    return {*said, *new}


def _base_score(scorer: Scorer, progress: Progress) -> Score:
    count = len(scorer.tokens)
    with progress.bar("scoring the base", count) as advance:
        score = scorer.base_score(count, advance)
    if not is_finite(score):
        raise InputError(not_finite(score))
    return score


def _measured(base: Base, task: Task, score: Score) -> Measured:
    return Measured(
        base.digest, score.digest, task.digest, task.name, score.examples, score.loss,
        score.accuracy, score.knowledge.bits if score.knowledge else None,
    )  # fmt: skip


def _cost(own: Score, outcome: Outcome, digests: Collection[str]) -> Cost:
    """Forwards and seconds; copies cost nothing."""
    scores = {score.digest: score for score in (own, *outcome.scores)}.values()
    return Cost(
        sum(score.examples for score in scores),
        (1 + len(digests)) * own.examples,
        sum(score.seconds for score in scores),
    )


def run_strategy(
    strategy: StrategyName,
    scorer: Scorer,
    candidates: Sequence[Candidate],
    criterion: Criterion,
    progress: Progress,
    *,
    finalists: int,
    history: History,
) -> tuple[StrategyName, str, Outcome]:
    """Measure ``candidates`` by a strategy; which it was, why, and what it found.

    Args:
        strategy: the one that is asked for.
        scorer, candidates, criterion, progress, finalists: as
            :func:`mashup._score.racing.racing` takes them.
        history: values of the criterion on past tasks of checkpoints with these digests.
    """
    different = list({one.digest: one for one in candidates[::-1]}.values())[::-1]
    past = history([one.digest for one in different])
    group = group_of(different)
    field = Field(
        len(different), len(set(group.values())), len(scorer.tokens), finalists,
        first_rung(criterion),
    )  # fmt: skip
    strategy, reason = pick(strategy, field, past)
    progress.say(f"strategy {strategy}: {reason}")
    if strategy == "racing":
        outcome = heats(scorer, different, group, criterion, progress, finalists=finalists)
    elif strategy == "ledger":
        outcome = recall(scorer, different, group, past, criterion, progress, finalists=finalists)
    else:
        outcome = exhaustive(scorer, different, progress)
    known = {score.digest: score for score in outcome.scores}
    copies = (  # they have the score of their original, at no cost
        replace(known[one.digest], checkpoint=one.checkpoint)
        for one in candidates
        if one.digest in known
    )
    return strategy, reason, replace(outcome, scores=tuple(copies))


def exhaustive(scorer: Scorer, candidates: Sequence[Candidate], progress: Progress) -> Outcome:
    """Every checkpoint on the whole sample: the ranking that other strategies approximate."""
    count = len(scorer.tokens)
    with progress.bar("scoring", count * len(candidates)) as advance:
        return Outcome(tuple(scorer.scores(candidates, count, advance)))


@dataclass(frozen=True)
class Field:
    """The size of a race.

    Attributes:
        checkpoints: of different content.
        groups: of near-identical ones among them.
        examples: of the sample.
        finalists: checkpoints that are measured on the whole sample at least.
        first: examples of the first rung.
    """

    checkpoints: int
    groups: int
    examples: int
    finalists: int
    first: int = FIRST

    @property
    def race(self) -> float:
        """Share of the exhaustive forwards that a race takes at most."""
        steps = rungs(self.examples, self.first)
        most = planned(self.groups, steps, self.finalists, self.checkpoints)
        return most / max(1, self.checkpoints * self.examples)

    def __str__(self) -> str:
        if self.groups == self.checkpoints:
            return f"{self.checkpoints} checkpoint{'s' * (self.checkpoints != 1)}"
        return f"{self.checkpoints} checkpoints in {self.groups} groups of near-identical ones"


def pick(asked: StrategyName, field: Field, past: NDArray[np.floating]) -> tuple[StrategyName, str]:
    """The strategy for a field, and the reason in one line.

    Args:
        asked: what the user wants.
        field: the size of the race.
        past: ``(checkpoints × past tasks)`` what the ledger knows.
    """
    tasks = tasks_known(past)
    if asked == "ledger" and tasks < TASKS:
        return "racing", f"the ledger knows {tasks} past tasks, and {TASKS} are needed"
    if asked != "auto":
        return asked, "as asked"
    if field.race >= _HALF or not field.checkpoints:
        return "exhaustive", f"{field}: a race would save less than half"
    if tasks >= TASKS and looks(field.checkpoints) < field.checkpoints / 2:
        return "ledger", f"{field}, known from {tasks} past tasks"
    return "racing", f"{field}: a race saves {1 - field.race:.0%} of the forwards"
