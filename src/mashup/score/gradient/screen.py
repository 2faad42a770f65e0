"""The gradient strategy: predict all by backward passes, and race the best predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mashup.progress import Progress
from mashup.score.candidates import Candidate
from mashup.score.gradient.coverage import uncovered
from mashup.score.gradient.rank import GradientScores, rank
from mashup.score.outcome import Outcome
from mashup.score.racing import racing
from mashup.score.result import Criterion
from mashup.score.sample import batches_for
from mashup.score.scorer import Scorer

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
    """Race the best predicted, and all that cannot be predicted, from 32 examples on.

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
    plain = [one for one in candidates if uncovered(one.checkpoint.path) is None]
    odd = [one for one in candidates if one not in plain]
    count = min(LOOK, len(scorer.tokens))
    if not plain:
        return racing(scorer, odd, criterion, progress, finalists=finalists, groups=group)
    found = _predicted(scorer, plain, count, progress)
    order = found.values.argsort()
    short = [plain[place] for place in order[:SHORT]]
    race = racing(
        scorer, short + odd, criterion, progress, finalists=finalists, groups=group, first=count
    )
    rest = {plain[place].checkpoint: float(found.values[place]) for place in order[SHORT:]}
    return Outcome(race.scores, rest, found.forward_equivalents, found.seconds)


def _predicted(
    scorer: Scorer, plain: Sequence[Candidate], count: int, progress: Progress
) -> GradientScores:
    batches = batches_for(scorer.base, scorer.tokens[:count])
    folders = [one.checkpoint.path for one in plain]
    return rank(scorer.base, folders, batches, progress=progress)
