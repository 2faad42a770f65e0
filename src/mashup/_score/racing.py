"""Racing: all checkpoints start on a few examples, and fewer of them go on at each rung.

Sequential halving with the same examples for all (Karnin, Koren and Somekh, ICML 2013; for
choosing models: arXiv 2601.22157), together with the paired test of Hoeffding races (Maron and
Moore, NIPS 1993): a checkpoint that is clearly worse than the best is eliminated even where there
is room.

A library holds steps of one run, copies and uploads of the same weights. So near-duplicates are
grouped, one of each group races first, and then the members of the best groups do: what a race
costs depends on groups, not on checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mashup._score.candidates import Candidate
from mashup._score.scorer import Scorer
from mashup._score.scores import Criterion, Outcome, Score, by_reach
from mashup.checkpoint import Checkpoint
from mashup.clusters import SAME, groups
from mashup.progress import Progress

FIRST, GROWTH = 8, 4  # examples of the first rung; each rung has so many times more
SECOND = FIRST * GROWTH  # examples on which groups are compared, and then their members
ERRORS = 2.0  # paired standard errors behind the best at which a checkpoint is eliminated
CROWD = 64  # the most that go on after the first rung
FINALISTS = 4  # the least that are measured on the whole sample
MEMBERS = 6  # of a group that race besides its first, evenly spread over the others
_MORE = 2  # groups that enter the second heat besides as many as can be finalists


def first_rung(criterion: Criterion) -> int:
    """Examples of the first rung. Knowledge is cross-fitted, so it needs more of them."""
    return SECOND if criterion == "knowledge" else FIRST


def finalists_for(k: int) -> int:
    """How many must be measured in full so that the best ``k`` can be chosen among them."""
    return max(FINALISTS, 2 * k)


def racing(
    scorer: Scorer,
    candidates: Sequence[Candidate],
    criterion: Criterion,
    progress: Progress,
    *,
    finalists: int = FINALISTS,
    groups: Mapping[str, int] | None = None,
    first: int = FIRST,
    field: int | None = None,
    until: int | None = None,
) -> Outcome:
    """Race the checkpoints over growing beginnings of the sample.

    Args:
        scorer: of the task's sample.
        candidates: those that start.
        criterion: what decides.
        progress: where to show a bar.
        finalists: how many at least are measured on the whole sample.
        groups: digest to group; only the best of a group runs the last rung.
        first: examples of the first rung.
        field: how many checkpoints the candidates stand for, when each races for others like it:
            a quarter of these goes on after the first rung.
        until: examples of the last rung that is run; None is the whole sample.
    """
    steps = rungs(len(scorer.tokens), first)
    steps = [count for count in steps if count <= (until or count)] or steps[:1]
    reached: dict[Path | None, Score] = {}
    running = list(candidates)
    before_last = steps[-2:][0]
    sizes = _runners(len(candidates), steps, finalists, field)
    total = sum(size * count for size, count in zip(sizes, steps, strict=True))
    with progress.bar("racing", total) as advance:  # each rung counts what is known by then too
        for count in steps:
            scores = scorer.scores(running, count, advance)
            reached |= {score.path: score for score in scores}
            seats, field = room(field or len(scores), finalists), None
            last_cut = count == before_last
            staying = stay(scores, criterion, finalists, groups or {}, seats, of_groups=last_cut)
            paths = {score.path for score in staying}
            running = [one for one in running if one.checkpoint.path in paths]
    return Outcome(tuple(reached.values()))


def rungs(examples: int, first: int = FIRST) -> list[int]:
    """Examples of each rung; the last is the whole sample."""
    steps = []
    while first < examples:
        steps.append(first)
        first *= GROWTH
    return [*steps, examples]


def planned(
    candidates: int, steps: Sequence[int], finalists: int = FINALISTS, field: int | None = None
) -> int:
    """The most forwards that a race takes: no checkpoint is eliminated by the paired test."""
    sizes = _runners(candidates, steps, finalists, field)
    new = np.diff(steps, prepend=0)
    return int(np.dot(sizes, new))


def _runners(candidates: int, steps: Sequence[int], finalists: int, field: int | None) -> list[int]:
    """The most checkpoints that run each rung."""
    sizes = []
    for _ in steps:
        sizes.append(candidates)
        candidates, field = min(candidates, room(field or candidates, finalists)), None
    return sizes


def room(candidates: int, finalists: int) -> int:
    """How many of a rung's checkpoints may go on: a quarter, and at most :data:`CROWD`."""
    return max(finalists, min(CROWD, math.ceil(candidates / GROWTH)))


def stay(
    scores: Sequence[Score],
    criterion: Criterion,
    finalists: int,
    groups: Mapping[str, int],
    seats: int,
    *,
    of_groups: bool = True,
) -> list[Score]:
    """Those that go on: the best ``seats`` of those that are not clearly worse than the best.

    At least ``finalists`` groups go on, whatever their distance, so that there is a choice. With
    ``of_groups`` only the best of a group goes on. Of copies only one ever does.
    """
    ranking = _leaders(sorted(scores, key=lambda score: score.order(criterion)), {})
    leaders = _leaders(ranking, groups)
    pool = leaders if of_groups else ranking
    staying = [one for one in pool if not _behind(one, pool[0], criterion)][:seats]
    known = {groups.get(one.digest, one.digest) for one in staying}
    others = [one for one in leaders if groups.get(one.digest, one.digest) not in known]
    return staying + others[: max(0, finalists - len(known))]


def _leaders(ranking: Sequence[Score], groups: Mapping[str, int]) -> list[Score]:
    """The first of each group; a checkpoint without a group forms one with its copies."""
    leaders: dict[str | int, Score] = {}
    for score in ranking:
        leaders.setdefault(groups.get(score.digest, score.digest), score)
    return list(leaders.values())


def _behind(score: Score, best: Score, criterion: Criterion) -> bool:
    difference, error = score.against(best, criterion)
    return difference > ERRORS * error


def group_of(candidates: Sequence[Candidate]) -> dict[str, int]:
    """Digest to the place of the first checkpoint whose delta is nearly the same."""
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

    Steps of one run are nearly parallel, and still one may be overfitted: 0.21 and 0.30 nats were
    measured at a cosine of 0.99. So members race each other on 32 examples and more.

    Args:
        scorer: of the task's sample.
        candidates: those that can be chosen, of different content.
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
        for score in race.scores:  # the first of a group may be eliminated early in this one
            known = scores.get(score.digest, score)
            scores[score.digest] = max(score, known, key=lambda one: one.examples)
    return Outcome(tuple(scores.values()), _expected(candidates, group, scores, criterion))


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
    """Checkpoints that were not measured, with the value of the first of their group."""
    firsts = {group[digest]: score for digest, score in reversed(list(scores.items()))}
    left = (one for one in candidates if one.digest not in scores and group[one.digest] in firsts)
    return {one.checkpoint: firsts[group[one.digest]].value(criterion) for one in left}
