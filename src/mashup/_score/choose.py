"""Which strategy scores a library, and why that one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mashup._score.candidates import Candidate
from mashup._score.exhaustive import exhaustive
from mashup._score.heats import group_of, heats
from mashup._score.ledger.recall import TASKS, looks, recall, tasks_known
from mashup._score.outcome import Outcome
from mashup._score.racing import FIRST, first_rung, planned, rungs
from mashup._score.result import Criterion
from mashup._score.scorer import Scorer
from mashup.progress import Progress

Strategy = Literal["auto", "exhaustive", "racing", "ledger"]
#: Digests to ``(checkpoints × past tasks)``, NaN where nothing was measured.
History = Callable[[Sequence[str]], NDArray[np.floating]]
_HALF = 0.5
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
    group = group_of(different)
    field = Field(
        len(different), len(set(group.values())), len(scorer.tokens), finalists,
        first_rung(criterion),
    )  # fmt: skip
    strategy, reason = pick(strategy, field, past)
    progress.say(f"strategy {strategy}: {reason}")
    measure = {
        "exhaustive": lambda: exhaustive(scorer, different, progress),
        "racing": lambda: heats(scorer, different, group, criterion, progress, finalists=finalists),
        "ledger": lambda: recall(
            scorer, different, group, past, criterion, progress, finalists=finalists
        ),
    }
    return strategy, reason, _with_copies(measure[strategy](), candidates)


def _with_copies(outcome: Outcome, candidates: Sequence[Candidate]) -> Outcome:
    """Copies of a checkpoint have its score, for nothing."""
    known = {score.digest: score for score in outcome.scores}
    scores = (
        replace(known[one.digest], checkpoint=one.checkpoint)
        for one in candidates
        if one.digest in known
    )
    return replace(outcome, scores=tuple(scores))


@dataclass(frozen=True)
class Field:
    """How many there are: checkpoints without copies, groups of near-identical ones, examples of
    the sample, checkpoints that go over the whole of it at least, and examples of the first rung.
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


def pick(asked: Strategy, field: Field, past: NDArray[np.floating]) -> tuple[Strategy, str]:
    """The strategy for a field, and the reason in a line.

    Args:
        asked: what the user wants.
        field: how many there are.
        past: ``(checkpoints × past tasks)`` what the ledger knows.
    """
    tasks = tasks_known(past)
    if asked == "ledger" and tasks < TASKS:
        return "racing", f"the ledger knows {tasks} past tasks, it takes {TASKS}"
    if asked != "auto":
        return asked, "as asked"
    if field.race >= _HALF or not field.checkpoints:
        return "exhaustive", f"{field}: a race would save less than half"
    if tasks >= TASKS and looks(field.checkpoints) < field.checkpoints / 2:
        return "ledger", f"{field}, known from {tasks} past tasks"
    return "racing", f"{field}: a race saves {1 - field.race:.0%} of the forwards"
