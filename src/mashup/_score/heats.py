"""Heats: one of each group of near-identical checkpoints races, then the best groups' others do.

A library holds steps of one run, copies and uploads of the same weights. They are as many as
their owner saved, so what a race costs goes by groups, not by checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mashup._score.candidates import Candidate
from mashup._score.outcome import Outcome
from mashup._score.racing import FIRST, GROWTH, first_rung, racing
from mashup._score.result import Criterion, Score, by_reach
from mashup._score.scorer import Scorer
from mashup.checkpoint import Checkpoint
from mashup.progress import Progress
from mashup.similarity.clusters import SAME, groups

MEMBERS = 6  # of a group that race for it beside its first, evenly spread over the others
SECOND = FIRST * GROWTH  # examples on which groups are told apart, and then their members
_MORE = 2  # groups that go into the second heat beside as many as can be finalists


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
    """Race the first of each group to the second rung, then the best groups' members to the end.

    Steps of one run are nearly parallel, and still one may have learnt too much: measured, 0.21
    and 0.30 nats at a cosine of 0.99. So members race each other on 32 examples and more.

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
    until = None if alone else SECOND
    race = racing(
        scorer, firsts, criterion, progress, finalists=finalists, first=first_rung(criterion),
        field=len(candidates), until=until,
    )  # fmt: skip
    scores = {score.digest: score for score in race.scores}
    if not alone:
        ahead = by_reach(race.scores, criterion)[: finalists + _MORE]
        best = [group[one.digest] for one in ahead]
        again = [one for place in sorted(best) for one in _members(candidates, group, place)]
        race = racing(
            scorer, again, criterion, progress, finalists=finalists, groups=group, first=SECOND,
            field=2 * len(again),
        )  # fmt: skip
        for score in race.scores:  # the first of a group may end this one early
            scores[score.digest] = max(score, scores.get(score.digest, score), key=_examples)
    return Outcome(tuple(scores.values()), _expected(candidates, group, scores, criterion))


def _examples(score: Score) -> int:
    return score.examples


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
