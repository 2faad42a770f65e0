"""Which strategy scores a library, and why that one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from mashup.progress import Progress
from mashup.score.candidates import Candidate
from mashup.score.exhaustive import exhaustive
from mashup.score.outcome import Outcome
from mashup.score.racing import planned, racing, rungs
from mashup.score.result import Criterion
from mashup.score.scorer import Scorer
from mashup.similarity import SAME, groups

Strategy = Literal["auto", "exhaustive", "racing"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


def run_strategy(
    strategy: Strategy,
    scorer: Scorer,
    candidates: Sequence[Candidate],
    criterion: Criterion,
    progress: Progress,
    *,
    finalists: int,
) -> tuple[Strategy, str, Outcome]:
    """Measure ``candidates`` by a strategy; which it was, why, and what it found."""
    reason = "as asked"
    if strategy == "auto":
        strategy, reason = pick(len(candidates), len(scorer.tokens), finalists)
        progress.say(f"strategy {strategy}: {reason}")
    different = list({one.digest: one for one in candidates[::-1]}.values())[::-1]
    if strategy == "racing":
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


def pick(candidates: int, examples: int, finalists: int) -> tuple[Strategy, str]:
    """The strategy for so many checkpoints and examples, and the reason in a line."""
    most = planned(candidates, rungs(examples), finalists)
    if 2 * most >= candidates * examples:
        return "exhaustive", f"{candidates} checkpoints; a race would save less than half"
    saved = 1 - most / (candidates * examples)
    return "racing", f"{candidates} checkpoints; a race saves {saved:.0%} of the forwards"
