"""The arms of a comparison: which checkpoints each starts from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mashup._score.result import Score
from mashup._score.scores import Scores
from mashup._select import Selection
from mashup.settings import ArmName


@dataclass(frozen=True)
class Arm:
    """One way to start.

    Attributes:
        name: what tables call it.
        parents: the checkpoints that are merged; none for scratch.
        pays_for_scoring: whether choosing the parents needed the ranking.
        trained: False for the merged init as it is.
        note: what a reader must know about it.
    """

    name: str
    parents: tuple[Score, ...] = ()
    pays_for_scoring: bool = False
    trained: bool = True
    note: str = ""

    def selection(self, scores: Scores) -> Selection:
        return Selection(self.parents, scores)


def make_arms(names: Sequence[ArmName], selection: Selection, seed: int) -> tuple[Arm, ...]:
    """The asked arms, in their usual order; scratch is always there.

    Mashup with an empty selection is scratch, and says so: abstaining is its result.
    """
    ranking = selection.scores.ranking
    empty = "nothing beat the base: same as scratch" if selection.is_empty else ""
    untrained = "the base itself" if selection.is_empty else ""
    mashup = Arm("mashup", selection.chosen, pays_for_scoring=True, note=empty)
    made: dict[str, Arm] = {
        "scratch": Arm("scratch"),
        "mashup": mashup,
        "best-single": Arm("best-single", ranking[:1], pays_for_scoring=True),
        "random-two": Arm("random-two", random_two(ranking, seed), note=_drawn(selection.scores)),
        "merged-untrained": replace(mashup, name="merged-untrained", trained=False, note=untrained),
    }
    wanted = {"scratch", *names}
    return tuple(arm for name, arm in made.items() if name in wanted)


def unread(test_points: str, arms: Sequence[str]) -> str:
    """Why arms cannot be judged with these test points; empty when they can."""
    if test_points == "none":
        return "test_points none: arms are judged on the test rows; give all or end"
    if test_points == "end" and "merged-untrained" in arms:
        return "test_points end: merged-untrained is judged at step 0; give all, or leave it out"
    return ""


def _drawn(scores: Scores) -> str:
    """What a reader must know of the draw: a strategy may have passed over the unpromising."""
    if not scores.expected:
        return ""
    known = len(scores.ranking)
    return f"drawn among the {known} that were measured, of {known + len(scores.expected)}"


def random_two(ranking: Sequence[Score], seed: int) -> tuple[Score, ...]:
    """Two checkpoints drawn by their names, without looking at their scores."""
    return _sample(ranking, 2, seed)


def random_draw(ranking: Sequence[Score], count: int, draw: int, task: str) -> tuple[Score, ...]:
    """Some checkpoints (or all of fewer) for one of several targets, drawn by their names.

    Targets of an experiment share nearly all donors: with one seed for all of them, they would
    also share nearly the same few, and their mean would be that of one draw. Donors that another
    processor trained are other bytes with the same names: there the same ones are drawn.
    """
    return _sample(ranking, count, f"{draw} {task}")


def _sample(ranking: Sequence[Score], count: int, seed: int | str) -> tuple[Score, ...]:
    by_name = sorted(ranking, key=lambda score: (score.name, score.digest))
    return tuple(random.Random(seed).sample(by_name, min(count, len(by_name))))
