"""The gradient strategy: predict all by backward passes, and race the best predicted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mashup._score.candidates import Candidate
from mashup._score.gradient.coverage import uncovered
from mashup._score.gradient.rank import GradientScores, rank
from mashup._score.gradient.wholes import rank_wholes
from mashup._score.outcome import Outcome
from mashup._score.racing import FIRST, racing
from mashup._score.result import Criterion
from mashup._score.scorer import Scorer
from mashup.checkpoint import Checkpoint
from mashup.evaluate.evaluate import batches_for
from mashup.progress import Progress

LOOK = 32  # examples of the backward passes, and of the first true evaluation
SHORT = 16  # predicted best that are truly evaluated


def screen(
    scorer: Scorer,
    candidates: Sequence[Candidate],
    group: Mapping[str, int],
    criterion: Criterion,
    progress: Progress,
    *,
    finalists: int,
) -> Outcome:
    """Race the best predicted of LoRAs and of whole models, and all that cannot be predicted.

    Args:
        scorer: of the task's sample.
        candidates: who can be chosen, of different content.
        group: digest to group; only the best of a group goes to the end of the race.
        criterion: what decides the race; predictions are of the loss.
        progress: where to show bars.
        finalists: how many at least go over the whole sample.

    Raises:
        InputError: an adapter that cannot be read any more.
    """
    count = min(LOOK, len(scorer.tokens))
    loras = [one for one in candidates if uncovered(one.checkpoint.path) is None]
    wholes = [one for one in candidates if one.checkpoint.kind == "full"]
    odd = [one for one in candidates if one not in loras and one not in wholes]
    parts = [
        _short(scorer, loras, rank, count, progress, least=0),
        _short(scorer, wholes, rank_wholes, count, progress, least=SHORT),
    ]
    racers = [one for part in parts for one in part.racers] + odd
    first = count if any(part.forwards for part in parts) else FIRST
    race = racing(
        scorer, racers, criterion, progress, finalists=finalists, groups=group, first=first
    )
    rest = {checkpoint: value for part in parts for checkpoint, value in part.rest.items()}
    forwards, seconds = sum(part.forwards for part in parts), sum(part.seconds for part in parts)
    return Outcome(race.scores, rest, forwards, seconds)


@dataclass(frozen=True)
class _Short:
    """Who races of one kind, what is predicted of the others, and what the prediction cost."""

    racers: Sequence[Candidate]
    rest: Mapping[Checkpoint, float] = field(default_factory=dict)
    forwards: float = 0.0
    seconds: float = 0.0


def _short(
    scorer: Scorer,
    some: Sequence[Candidate],
    predict: Callable[..., GradientScores],
    count: int,
    progress: Progress,
    *,
    least: int,
) -> _Short:
    """The best predicted of one kind; all of it, unpredicted, when there are no more than that."""
    if len(some) <= least:
        return _Short(some)
    batches = batches_for(scorer.base, scorer.tokens[:count])
    found = predict(scorer.base, [one.checkpoint.path for one in some], batches, progress=progress)
    order = found.values.argsort()
    rest = {some[place].checkpoint: float(found.values[place]) for place in order[SHORT:]}
    racers = [some[place] for place in order[:SHORT]]
    return _Short(racers, rest, found.forward_equivalents, found.seconds)
