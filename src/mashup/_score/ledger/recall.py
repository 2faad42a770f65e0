"""The ledger strategy: look at a few checkpoints, infer the others from past tasks, race the best.

A look is a part of the sample. What it costs is decided by how many looks the ledger needs, which
grows much slower than the library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mashup._score.candidates import Candidate
from mashup._score.ledger.predict import choose
from mashup._score.outcome import Outcome
from mashup._score.racing import racing
from mashup._score.result import Criterion
from mashup._score.scorer import Scorer
from mashup.progress import Progress

LOOK = 32  # examples
LEAST = 16  # checkpoints that are looked at
TASKS = 15  # past tasks below which the ledger says too little
_LEAST = 1e-6  # probability: predictions are linear and may fall below zero
COVERED = 0.5  # share of the checkpoints that a past task must know to count as one


def looks(candidates: int) -> int:
    """How many checkpoints are looked at: 16, and 2√N of many."""
    return min(candidates, max(LEAST, round(2 * math.sqrt(candidates))))


def tasks_known(history: NDArray[np.floating]) -> int:
    """Past tasks on which half of the checkpoints or more were measured."""
    if not history.size:
        return 0
    return int((np.isfinite(history).mean(axis=0) >= COVERED).sum())


def recall(
    scorer: Scorer,
    candidates: Sequence[Candidate],
    group: Mapping[str, int],
    history: NDArray[np.floating],
    criterion: Criterion,
    progress: Progress,
    *,
    finalists: int,
) -> Outcome:
    """Measure those that past tasks and the looks so far promise, and race what was looked at.

    Args:
        scorer: of the task's sample.
        candidates: who can be chosen, of different content.
        group: digest to group; only the best of a group goes to the end of the race.
        history: ``(candidates × past tasks)`` values of the criterion, NaN where unknown.
        criterion: what decides.
        progress: where to show bars.
        finalists: how many at least go over the whole sample.
    """
    budget, count = looks(len(candidates)), min(LOOK, len(scorer.tokens))
    with progress.bar("looking", budget * count) as advance:

        def look(places: Sequence[int]) -> list[float]:
            made = scorer.scores([candidates[place] for place in places], count, advance)
            values = {score.digest: -score.value(criterion) for score in made}
            found = [values.get(candidates[place].digest, math.nan) for place in places]
            return _goodness(np.array(found), criterion).tolist()

        known = -history if criterion == "loss" else history
        choice = choose(look, _goodness(known, criterion), budget)
    seen = [candidates[place] for place in choice.measured]
    race = racing(scorer, seen, criterion, progress, finalists=finalists, groups=group, first=count)
    unseen = set(range(len(candidates))) - {*choice.measured, *choice.failed}
    expected = {
        candidates[place].checkpoint: _value(choice.mean[place], criterion)
        for place in sorted(unseen)
    }
    return Outcome(race.scores, expected)


def _goodness(values: NDArray[np.floating], criterion: Criterion) -> NDArray[np.floating]:
    """Higher is better: accuracy, or the geometric mean of the answer tokens' probabilities."""
    return np.exp(values) if criterion == "loss" else values


def _value(goodness: float, criterion: Criterion) -> float:
    """The criterion, lower is better, that a goodness stands for."""
    if criterion == "accuracy":
        return -goodness
    return -math.log(max(goodness, _LEAST))
