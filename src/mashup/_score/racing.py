"""Racing: all start on a few examples, and the longer it goes the fewer are left.

Sequential halving with the same examples for all (Karnin, Koren and Somekh, ICML 2013; for
choosing models: arXiv 2601.22157), with the paired test of Hoeffding races (Maron and Moore,
NIPS 1993) beside it: what is clearly worse than the best goes even where there is room.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mashup._score.candidates import Candidate
from mashup._score.outcome import Outcome
from mashup._score.result import Criterion, Score
from mashup._score.scorer import Scorer
from mashup.progress import Progress

FIRST, GROWTH = 8, 4  # examples of the first rung; each rung has so many times more
ERRORS = 2.0  # paired standard errors behind the best at which a checkpoint gives up
CROWD = 64  # that go on after the first rung at most, however many there are
FINALISTS = 4  # that reach the whole sample at least


def first_rung(criterion: Criterion) -> int:
    """Examples of the first rung. Knowledge is cross-fitted, so it needs more of them."""
    return FIRST * GROWTH if criterion == "knowledge" else FIRST


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
        candidates: who starts.
        criterion: what decides.
        progress: where to show a bar.
        finalists: how many at least go over the whole sample.
        groups: digest to group; only the best of a group goes over the last rung.
        first: examples of the first rung.
        field: how many the candidates stand for, when each races for others like it: a quarter
            of these goes on after the first rung.
        until: examples of the last rung that is run; the whole sample.
    """
    steps = rungs(len(scorer.tokens), first)
    steps = [count for count in steps if count <= (until or count)] or steps[:1]
    reached: dict[Path | None, Score] = {}
    running = list(candidates)
    before_last = steps[-2:][0]
    with progress.bar("racing", planned(len(candidates), steps, finalists, field)) as advance:
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
    """Examples of each rung; the last has them all."""
    steps = []
    while first < examples:
        steps.append(first)
        first *= GROWTH
    return [*steps, examples]


def planned(
    candidates: int, steps: Sequence[int], finalists: int = FINALISTS, field: int | None = None
) -> int:
    """Forwards of a race in which only the numbers decide: the most that it takes."""
    total, before = 0, 0
    for count in steps:
        total += candidates * (count - before)
        before = count
        candidates, field = min(candidates, room(field or candidates, finalists)), None
    return total


def room(candidates: int, finalists: int) -> int:
    """How many of a rung's checkpoints may go on: a quarter, and no crowd."""
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
    """Who goes on: the best of those that are not clearly worse than the best, ``seats`` at most.

    At least ``finalists`` groups go on, whatever their distance, so that there is a choice; of a
    group only its best, if ``of_groups``, and of copies always one.
    """
    ranking = _leaders(sorted(scores, key=lambda score: score.order(criterion)), {})
    leaders = _leaders(ranking, groups)
    pool = leaders if of_groups else ranking
    staying = [one for one in pool if not _behind(one, pool[0], criterion)][:seats]
    known = {groups.get(one.digest, one.digest) for one in staying}
    others = [one for one in leaders if groups.get(one.digest, one.digest) not in known]
    return staying + others[: max(0, finalists - len(known))]


def _leaders(ranking: Sequence[Score], groups: Mapping[str, int]) -> list[Score]:
    """The first of each group; what is in no group is one by itself, with its copies."""
    leaders: dict[str | int, Score] = {}
    for score in ranking:
        leaders.setdefault(groups.get(score.digest, score.digest), score)
    return list(leaders.values())


def _behind(score: Score, best: Score, criterion: Criterion) -> bool:
    difference, error = score.against(best, criterion)
    return difference > ERRORS * error
