"""The values that the table, the pictures and the page of a comparison show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mashup._report.material import Measured
from mashup._report.ranking import Ranking
from mashup.results.statistics import Difference

SCRATCH, MASHUP, BEST_SINGLE = "scratch", "mashup", "best-single"
COSTS = ("score", "merge", "search", "train")


@dataclass(frozen=True)
class Reach:
    """When an arm reaches scratch's quality by one rule: means over seeds.

    Attributes:
        never, seeds: in how many of how many seeds it never does.
        steps, seconds: of the arm, None unless every seed gets there.
        scratch_steps, scratch_seconds: what they are compared with.
    """

    never: int
    seeds: int
    steps: float | None
    seconds: float | None
    scratch_steps: float
    scratch_seconds: float


@dataclass(frozen=True)
class ArmRow:
    """One arm at full budget; numbers are means over seeds.

    Attributes:
        start: the names of what it starts from, in words.
        note: what a reader must know about it.
        accuracy, loss: on test, at the end.
        accuracy_gain, loss_gain: arm minus scratch, None for scratch and untrained arms.
        costs: seconds by what they went to (score, merge, search, train).
    """

    name: str
    start: str
    note: str
    trained: bool
    steps: float
    accuracy: float
    loss: float
    accuracy_gain: Difference | None
    loss_gain: Difference | None
    costs: dict[str, float]
    seconds: float
    fair: Reach | None
    paper: Reach | None
    runs: tuple[Measured, ...]

    @property
    def seeds(self) -> frozenset[int]:
        return frozenset(run.seed for run in self.runs)


@dataclass(frozen=True)
class Rung:
    """One arm at one budget of the ladder; means over seeds."""

    arm: str
    budget: float
    steps: float
    dev_loss: float
    accuracy: float
    seconds: float


class Armed:
    """What holds the arms of one task.

    Attributes:
        arms: at full budget.
        commonest: test accuracy of the commonest answer, None in records of old versions.
    """

    arms: tuple[ArmRow, ...]
    commonest: float | None

    def arm(self, name: str) -> ArmRow | None:
        return next((arm for arm in self.arms if arm.name == name), None)

    @property
    def scratch(self) -> ArmRow:
        return next(arm for arm in self.arms if arm.name == SCRATCH)

    @property
    def is_blind(self) -> bool:
        """Whether no arm beats an answer that never looks at the prompt."""
        level = self.commonest
        return level is not None and all(arm.accuracy <= level for arm in self.arms)


@dataclass(frozen=True)
class Summary(Armed):
    """A whole comparison.

    Attributes:
        ladder: empty when only full runs were made.
        about: ``comparison.json``.
        over: test accuracy of mashup minus that of each other arm but scratch, by its name.
    """

    task: str
    seeds: tuple[int, ...]
    arms: tuple[ArmRow, ...]
    ladder: tuple[Rung, ...]
    ranking: Ranking
    about: dict[str, Any]
    commonest: float | None = None
    over: Mapping[str, Difference] = field(default_factory=dict)

    @property
    def subject(self) -> ArmRow | None:
        """The arm that the verdict is about: mashup, or the first trained one beside scratch."""
        others = [arm for arm in self.arms if arm.trained and arm.name != SCRATCH]
        return self.arm(MASHUP) or next(iter(others), None)
