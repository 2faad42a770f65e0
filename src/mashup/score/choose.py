"""Which strategy scores a library, and why that one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mashup.progress import Progress
from mashup.score.candidates import Candidate
from mashup.score.exhaustive import exhaustive
from mashup.score.gradient.screen import screen
from mashup.score.ledger.recall import TASKS, looks, recall, tasks_known
from mashup.score.outcome import Outcome
from mashup.score.racing import planned, racing, rungs
from mashup.score.result import Criterion
from mashup.score.scorer import Scorer
from mashup.similarity import SAME, groups

Strategy = Literal["auto", "exhaustive", "racing", "gradient", "ledger"]
#: Digests to ``(checkpoints × past tasks)``, NaN where nothing was measured.
History = Callable[[Sequence[str]], NDArray[np.floating]]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


def run_strategy(
    strategy: Strategy,
    scorer: Scorer,
    candidates: Sequence[Candidate],
    criterion: Criterion,
    progress: Progress,
    *,
    finalists: int,
    history: History,
) -> tuple[Strategy, str, Outcome]:
    """Measure ``candidates`` by a strategy; which it was, why, and what it found.

    Args:
        strategy: the one that is asked for.
        scorer, candidates, criterion, progress, finalists: as :func:`racing` takes them.
        history: values of the criterion on past tasks of checkpoints with these digests.
    """
    different = list({one.digest: one for one in candidates[::-1]}.values())[::-1]
    past = history([one.digest for one in different])
    strategy, reason = pick(strategy, len(different), len(scorer.tokens), finalists, past)
    progress.say(f"strategy {strategy}: {reason}")
    if strategy == "ledger":
        outcome = recall(scorer, different, past, criterion, progress, finalists=finalists)
    elif strategy == "gradient":
        outcome = screen(scorer, different, criterion, progress, finalists=finalists)
    elif strategy == "racing":
        outcome = racing(
            scorer, different, criterion, progress, finalists=finalists, groups=_groups(different)
        )
    else:
        outcome = exhaustive(scorer, different, progress)
    return strategy, reason, _with_copies(outcome, candidates)


def _groups(candidates: Sequence[Candidate]) -> dict[str, int]:
    """Digest to group: checkpoints of nearly the same delta are in one."""
    if not candidates:
        return {}
    found = groups(np.stack([one.sketch for one in candidates]), SAME)
    return {one.digest: int(number) for one, number in zip(candidates, found, strict=True)}


def _with_copies(outcome: Outcome, candidates: Sequence[Candidate]) -> Outcome:
    """Copies of a checkpoint have its score, for nothing."""
    known = {score.digest: score for score in outcome.scores}
    scores = (
        replace(known[one.digest], checkpoint=one.checkpoint)
        for one in candidates
        if one.digest in known
    )
    return replace(outcome, scores=tuple(scores))


def pick(
    asked: Strategy, candidates: int, examples: int, finalists: int, past: NDArray[np.floating]
) -> tuple[Strategy, str]:
    """The strategy for so many checkpoints and examples, and the reason in a line.

    Args:
        asked: what the user wants.
        candidates, examples: how many there are, copies not counted.
        finalists: how many go over the whole sample at least.
        past: ``(candidates × past tasks)`` what the ledger knows.
    """
    tasks = tasks_known(past)
    if asked == "ledger" and tasks < TASKS:
        return "racing", f"the ledger knows {tasks} past tasks, it takes {TASKS}"
    if asked != "auto":
        return asked, "as asked"
    most = planned(candidates, rungs(examples), finalists)
    if 2 * most >= candidates * examples:
        return "exhaustive", f"{candidates} checkpoints: a race would save less than half"
    if tasks >= TASKS and looks(candidates) < candidates / 2:
        return "ledger", f"{candidates} checkpoints, known from {tasks} past tasks"
    saved = 1 - most / (candidates * examples)
    return "racing", f"{candidates} checkpoints: a race saves {saved:.0%} of the forwards"
