"""Choose the parents of a merge, or none: scores in, choice out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mashup._score.scores import Score, Scores
from mashup.clusters import SAME, Row, leaders
from mashup.faults import resolved
from mashup.results.statistics import paired_error
from mashup.settings import SelectSettings
from mashup.tables import Shown

NOTHING_HELPS = "no checkpoint helps; start from the base"
NONE_KNOWS = "no checkpoint knows this task; start from the base"
#: Probability that any checkpoint is chosen when none of those looked at is better than the base.
FAMILY_ERROR = 0.05
#: What a p value of "no bits at all" is multiplied by. Cross-fitting costs a source that knows
#: nothing some bits, so it is rarely ahead of zero: by one standard error in under 1 % of the cases
#: (16 % by the t distribution), by two in 0.04 % (2.4 %). benchmarks/choosing/null.py measures it,
#: from 16 rows on. Of 8 rows of a real task, one sample in eight had a stranger that "knows" it.
CALIBRATION, CALIBRATED_FROM = 1 / 20, 16
#: Optimizer steps in which training from the base learns the form (docs/score.md).
FORM_STEPS = 4
_NAMED = 3  # checkpoints named in a sentence


@dataclass(frozen=True)
class Passed:
    """A checkpoint that ranked ahead of a chosen one, and was skipped.

    Attributes:
        score: of the skipped checkpoint.
        like: the chosen one with the most similar delta.
        cosine: of their deltas.
        is_same: whether they are near-identical.
    """

    score: Score
    like: Score
    cosine: float
    is_same: bool

    @property
    def sentence(self) -> str:
        word = "nearly the same as" if self.is_same else "like"
        return f"{self.score.name} ({word} {self.like.name}, cosine {self.cosine:.2f})"


@dataclass(frozen=True, repr=False)
class Selection(Shown):
    """The chosen checkpoints, in the order of choice; empty when none is clearly better.

    Attributes:
        chosen: the best first.
        scores: what they were chosen from.
        passed: those that came ahead of a chosen one and were skipped, best first.
        better: all that passed the test against the base, copies once, in the order of choice.
    """

    chosen: tuple[Score, ...]
    scores: Scores
    passed: tuple[Passed, ...] = ()
    better: tuple[Score, ...] = ()

    @property
    def _title(self) -> str:
        return f"Selection: {self.sentence}"

    def _shown(self) -> list[dict[str, Any]]:
        return [
            {"name": one.name, "loss": one.loss, "accuracy": one.accuracy, "path": one.path}
            for one in self.chosen
        ]

    @property
    def is_empty(self) -> bool:
        return not self.chosen

    @property
    def sentence(self) -> str:
        """The choice in words."""
        by_knowledge = self.scores.criterion == "knowledge"
        if self.is_empty:
            return f"{NONE_KNOWS}{self._form}" if by_knowledge else NOTHING_HELPS
        parts = " and ".join(map(self._part, self.chosen))
        if not by_knowledge:
            return f"start from {parts} against the base{self._passed_over}"
        count, chosen = max(len(self.better), len(self.chosen)), len(self.chosen)
        know = "1 checkpoint knows" if count == 1 else f"{count} checkpoints know"
        best = "" if count == chosen else "the best: " if chosen == 1 else f"the best {chosen}: "
        return f"{know} this task; start from {best}{parts}{self._passed_over}"

    def _part(self, score: Score) -> str:
        if self.scores.criterion == "knowledge" and score.knowledge:
            bits, error = score.knowledge.bits, score.knowledge.error
            return f"{score.name} ({bits:.2f} ± {error:.2f} bits)"
        difference, error = score.against(self.scores.base, self.scores.criterion)
        unit = "nats a token" if self.scores.criterion == "loss" else "error rate"
        return f"{score.name} ({difference:+.3f} ± {error:.3f} {unit})"

    @property
    def _form(self) -> str:
        """What is left to gain where nobody knows the task: checkpoints with the answers' form."""
        base = self.scores.base.knowledge
        known = [one.knowledge for one in self.scores.finalists if one.knowledge]
        if not base:
            return ""
        count = 0
        for one in known:
            gain, error = paired_error(base.form - one.form, np.ones(len(base.form)), base.prompts)
            count += gain > 2 * error
        if not count:
            return ""
        give = "1 checkpoint gives" if count == 1 else f"{count} checkpoints give"
        return f" ({give} the form of the answers, which saves about {FORM_STEPS} training steps)"

    @property
    def _passed_over(self) -> str:
        if not self.passed:
            return ""
        named = [one.sentence for one in self.passed[:_NAMED]]
        rest = len(self.passed) - len(named)
        return f"; passed over: {', '.join(named)}" + (f" and {rest} more" if rest else "")


def select(
    scores: Scores,
    settings: SelectSettings | None = None,
    *,
    k: int | None = None,
    diversity: float | None = None,
    errors: float = 2.0,
    same: float = SAME,
) -> Selection:
    """The best ``k`` checkpoints, no two of one run, among those that are better than the base.

    A checkpoint is better if its difference to the base is at least ``errors`` paired standard
    errors, and significant after a correction for the number of checkpoints looked at: a
    one-sided t test with one degree of freedom less than there are prompts, and Holm's correction
    (Holm, 1979) at :data:`FAMILY_ERROR`. By knowledge it must be ahead of the base and of zero
    bits by ``errors`` standard errors, and the significance is that of the bits above zero, times
    :data:`CALIBRATION` where there are at least :data:`CALIBRATED_FROM` prompts; then it knows the
    task. Of those, only the best and its equals in knowledge are taken, those with the least loss
    first (:func:`_equals_by_loss`); with ``diversity`` the others too.

    Args:
        scores: a ranking by the criterion that decides.
        settings: the two that follow in one object; by default those of
            :class:`mashup.SelectSettings`. What it sets cannot be given as an argument as well.
        k: how many at most (2).
        diversity: how much of the best one's gain over the base may be given up for a
            checkpoint at right angles to those chosen instead of a copy (0; see
            :func:`mashup.similarity.diverse.marginal`).
        errors: the least difference to the base, in paired standard errors.
        same: the least cosine of two that are near-identical; only the best of them is chosen.

    Raises:
        UsageError: impossible or contradicting settings.
        ValueError: ``diversity``, and scores without sketches.
    """
    settings = resolved(SelectSettings, settings, {"k": k, "diversity": diversity}, "select")
    k, diversity = settings.k, settings.diversity
    better = _better(scores, errors)
    if not better:
        return Selection((), scores)
    open_to = better
    if scores.criterion == "knowledge":
        better, equal = _equals_by_loss(better)
        open_to = better if diversity else better[:equal]
    if diversity and not scores.sketches:
        raise ValueError("diversity needs sketches of the checkpoints' deltas")
    if not scores.sketches:  # then only copies are known to be the same
        return Selection(open_to[:k], scores, better=better)
    row = scores.cosines([score.digest for score in open_to])
    values = np.array([score.value(scores.criterion) for score in open_to])
    values = np.minimum.accumulate(values[::-1])[::-1]  # equals have the value of their best
    lost = relative(values, scores.base.value(scores.criterion))
    chosen = _diverse(lost, row, k, diversity, same)
    passed = _passed(open_to, chosen, row, same)
    return Selection(tuple(open_to[index] for index in chosen), scores, passed, better)


def least_loss(scores: Scores, k: int) -> tuple[Score, ...]:
    """The ``k`` checkpoints with the least loss among those below the base's, copies once.

    They give the form of the answers, whatever they know (docs/results/families has what a start
    from such strangers gains in a short run).
    """
    below = {one.digest: one for one in scores.finalists if one.loss < scores.base.loss}
    return tuple(sorted(below.values(), key=lambda one: one.order("loss"))[:k])


def _better(scores: Scores, errors: float) -> tuple[Score, ...]:
    """Those that are better than the base, best first; of copies of one content the first."""
    from mashup.results.significance import holm  # it imports scipy.stats

    tested: dict[str, tuple[Score, float]] = {}
    for score in scores.finalists:
        if score.digest not in tested:
            tested[score.digest] = score, _p(score, scores, errors)
    others = max(scores.looked_at - len(tested), 0)  # eliminated on a part of the same sample
    adjusted = holm([*(p for _, p in tested.values()), *[1.0] * others])
    return tuple(
        score
        for (score, _), p in zip(tested.values(), adjusted, strict=False)
        if p is not None and p <= FAMILY_ERROR
    )


def _equals_by_loss(ranked: Sequence[Score]) -> tuple[tuple[Score, ...], int]:
    """The order of choice: the best and its equals in knowledge by their loss, then the others so.

    Equal is: at most one paired standard error below the best (the one-standard-error rule of
    Breiman et al., 1984). Sources that know a task equally well can differ in the form of their
    answers: a start with other label words has to learn the words first. A merge of the best with
    a source that knows less, knows less (docs/select.md has numbers).

    Args:
        ranked: the most knowledge first.

    Returns:
        All of them, and how many are the best and its equals.
    """
    count = 0
    left, ordered = list(ranked), list[Score]()
    while left:
        equal, below = left[:1], list[Score]()
        for one in left[1:]:
            less, error = one.against(left[0], "knowledge")
            (equal if less <= error else below).append(one)
        ordered += sorted(equal, key=lambda one: one.loss)
        count = count or len(equal)
        left = below
    return tuple(ordered), count


def _p(score: Score, scores: Scores, errors: float) -> float:
    """One-sided p of "no better than the base"; 1 within ``errors`` standard errors of it.

    By knowledge: of "no bits above zero". A source that only knows what the base knows does no
    harm, so that being ahead of the base is not corrected for the number of sources.
    """
    difference, error = score.against(scores.base, scores.criterion)
    if not difference < -errors * error:
        return 1.0
    scale = 1.0
    if scores.criterion == "knowledge" and score.knowledge:
        difference, error = -score.knowledge.bits, score.knowledge.error
        scale = CALIBRATION if scores.prompts >= CALIBRATED_FROM else 1.0
        if not difference < -errors * error:
            return 1.0
    from scipy.special import stdtr

    freedom = max(scores.prompts - 1, 1)
    return scale * float(stdtr(freedom, difference / error)) if error > 0 else 0.0


def _diverse(
    lost: NDArray[np.floating], row: Row, k: int, diversity: float, same: float
) -> list[int]:
    """Indices of the chosen: the best of each group; without diversity the first ``k`` of these."""
    found = leaders(row, len(lost), same, None if diversity else k)
    led = np.unique(found[found >= 0])
    chosen = marginal(lost[led], lambda index: row(int(led[index]))[led], k, diversity)
    return [int(led[index]) for index in chosen]


def _passed(
    better: Sequence[Score], chosen: Sequence[int], row: Row, same: float
) -> tuple[Passed, ...]:
    """Those skipped ahead of the last chosen one, each with the chosen one it is most like."""
    ahead = [index for index in range(max(chosen)) if index not in chosen]
    if not ahead:
        return ()
    rows = np.stack([row(index) for index in chosen])
    found = []
    for index in ahead:
        nearest = int(np.argmax(rows[:, index]))
        cosine = float(rows[nearest, index])
        like = better[chosen[nearest]]
        found.append(Passed(better[index], like, cosine, cosine >= same))
    return tuple(found)


# -- fit against difference


def relative(losses: NDArray[np.floating], base: float) -> NDArray[np.floating]:
    """The share of the best one's gain that each lacks: 0 for the best, 1 for the base.

    Args:
        losses: ``(n,)``, at least one, none above ``base``.
        base: the base's loss.
    """
    best = losses.min()
    return (losses - best) / max(base - best, np.finfo(float).tiny)


def marginal(lost: NDArray[np.floating], row: Row, k: int, diversity: float) -> list[int]:
    """Indices of at most ``k``: each has the least ``lost + diversity · cosine`` of those left.

    Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998). The cosine is the largest
    with those chosen before. Below 0 it counts as 0: deltas that point apart cancel in a merge,
    so they are no better company than deltas at right angles. Of equals the first is chosen.

    Args:
        lost: ``(n,)``, what each gives up, see :func:`relative`.
        row: cosines; asked for those chosen only.
        k: how many at most.
        diversity: what a cosine of 1 costs.
    """
    chosen: list[int] = []
    likeness = np.zeros(len(lost))
    for _ in range(min(k, len(lost))):
        price = lost + diversity * likeness
        price[chosen] = np.inf
        chosen.append(int(np.argmin(price)))
        likeness = np.maximum(likeness, row(chosen[-1]))
    return chosen
