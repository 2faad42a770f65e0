"""Heats: one of each group of near-identical checkpoints races, then the best groups' others do.

A library holds steps of one run, copies and uploads of the same weights. They are as many as
their owner saved, so what a race costs goes by groups, not by checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mashup.checkpoint import Checkpoint
from mashup.progress import Progress
from mashup.score.candidates import Candidate
from mashup.score.outcome import Outcome
from mashup.score.racing import racing
from mashup.score.result import Criterion, Score
from mashup.score.scorer import Scorer
from mashup.similarity import SAME, groups

MEMBERS = 16  # of a group that race for it beside its first, evenly spread over the others


def group_of(candidates: Sequence[Candidate]) -> dict[str, int]:
    """Digest to the place of the first checkpoint that its delta is nearly the same as."""
    if not candidates:
        return {}
    found = groups(np.stack([one.sketch for one in candidates]), SAME)
    return {one.digest: int(place) for one, place in zip(candidates, found, strict=True)}


def heats(
    scorer: Scorer,
    candidates: Sequence[Candidate],
    group: dict[str, int],
    criterion: Criterion,
    progress: Progress,
    *,
    finalists: int,
) -> Outcome:
    """Race the first of each group up to the last rung, then the best with their groups to its end.

    Args:
        scorer: of the task's sample.
        candidates: who can be chosen, of different content.
        group: of :func:`group_of`.
        criterion: what decides.
        progress: where to show bars.
        finalists: how many groups at least are measured on the whole sample.
    """
    firsts = [candidates[place] for place in dict.fromkeys(group.values())]
    alone = len(firsts) == len(candidates)
    race = racing(
        scorer, firsts, criterion, progress, finalists=finalists, field=len(candidates), whole=alone
    )
    scores = {score.digest: score for score in race.scores}
    if not alone:
        best = [group[one.digest] for one in _ahead(race.scores, criterion)[:finalists]]
        again = [one for place in sorted(best) for one in _members(candidates, group, place)]
        race = racing(scorer, again, criterion, progress, finalists=finalists, groups=group)
        for score in race.scores:  # the first of a group may end this one early
            scores[score.digest] = max(score, scores.get(score.digest, score), key=_examples)
    return Outcome(tuple(scores.values()), _expected(candidates, group, scores, criterion))


def _examples(score: Score) -> int:
    return score.examples


def _ahead(scores: Sequence[Score], criterion: Criterion) -> list[Score]:
    """By how far they came, then by the criterion."""
    return sorted(scores, key=lambda score: (-score.examples, score.order(criterion)))


def _members(candidates: Sequence[Candidate], group: dict[str, int], place: int) -> list[Candidate]:
    """The first of a group, and some of the others."""
    first, *others = [one for one in candidates if group[one.digest] == place]
    spread = np.linspace(0, len(others) - 1, min(MEMBERS, len(others))).round().astype(int)
    return [first, *(others[index] for index in spread)]


def _expected(
    candidates: Sequence[Candidate],
    group: dict[str, int],
    scores: dict[str, Score],
    criterion: Criterion,
) -> dict[Checkpoint, float]:
    """Those that were not measured are worth what the first of their group is."""
    firsts = {group[digest]: score for digest, score in reversed(list(scores.items()))}
    left = (one for one in candidates if one.digest not in scores and group[one.digest] in firsts)
    return {one.checkpoint: firsts[group[one.digest]].value(criterion) for one in left}
