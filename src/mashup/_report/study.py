"""The values that tables, pictures and sentences show.

A :class:`Study` is one experiment: targets, their arms, and the contrasts of arms over targets.
A comparison is a study of one target.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mashup.results.curve import Point
from mashup.results.statistics import Difference

SCRATCH, MASHUP, BEST_SINGLE = "scratch", "mashup", "best-single"
COSTS = ("score", "merge", "search", "train")


@dataclass(frozen=True)
class RunRow:
    """One run of an arm.

    Attributes:
        budget: share of the full number of steps.
        points: its curve, from step 0; an untrained arm has only that.
        values: everything else that was measured, by metric; None means never.
    """

    arm: str
    seed: int
    budget: float
    points: tuple[Point, ...]
    values: Mapping[str, float | None]

    @property
    def last(self) -> Point:
        return self.points[-1]

    @property
    def accuracy(self) -> float:
        """On the test rows, at the end."""
        return _read(self.last.test_accuracy)

    @property
    def loss(self) -> float:
        """On the test rows, at the end, in nats per answer token."""
        return _read(self.last.test_loss)

    @property
    def trained(self) -> bool:
        return self.last.step > 0

    @property
    def overhead(self) -> float:
        """Seconds before the first step."""
        return self.seconds("total") - self.seconds("train")

    def seconds(self, cost: str) -> float:
        return self.values.get(f"{cost}_seconds") or 0.0


def _read(value: float | None) -> float:
    return math.nan if value is None else value


@dataclass(frozen=True)
class Reach:
    """When an arm reaches scratch's quality by one rule: means over runs.

    Attributes:
        never, seeds: in how many of how many runs it never does.
        steps, seconds: of the arm; None unless every run gets there.
        scratch_steps, scratch_seconds: of scratch, by the same rule.
    """

    never: int
    seeds: int
    steps: float | None
    seconds: float | None
    scratch_steps: float
    scratch_seconds: float


@dataclass(frozen=True)
class ArmRow:
    """One arm on one target at full budget; numbers are means over runs (seeds and draws).

    Attributes:
        start: the names of what it starts from; empty where the records do not say.
        note: what a reader must know about it.
        accuracy, loss: on test, at the end.
        accuracy_gain, loss_gain: arm minus scratch, None for scratch and untrained arms.
        costs: seconds by what they were spent on (score, merge, search, train).
        fair, paper: parity by the two rules; None where it was not measured.
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
    costs: Mapping[str, float]
    seconds: float
    fair: Reach | None
    paper: Reach | None
    runs: tuple[RunRow, ...]

    @property
    def seeds(self) -> frozenset[int]:
        return frozenset(run.seed for run in self.runs)

    @property
    def overhead(self) -> float:
        """Seconds before the first step."""
        return self.seconds - self.costs["train"]


@dataclass(frozen=True)
class Rung:
    """One arm at one budget of the ladder; means over seeds.

    Attributes:
        gain: of test accuracy over scratch at the same budget; None in older records.
        full_gain: over scratch's run of all steps.
    """

    arm: str
    budget: float
    steps: float
    dev_loss: float
    accuracy: float
    seconds: float
    gain: Difference | None = None
    full_gain: Difference | None = None


@dataclass(frozen=True)
class End:
    """Where one run of a grid of learning rates ended; the values are None if it diverged."""

    arm: str
    seed: int
    rate: float
    dev_loss: float | None
    test_accuracy: float | None
    test_loss: float | None


@dataclass(frozen=True)
class Source:
    """A source checkpoint, or the base, on the sample of a target, before training.

    Attributes:
        loss: nats per answer token. accuracy: share of exact answers.
        difference, error: of the criterion to the base, less is better, with its paired standard
            error. The error is None where it was not recorded.
        form, knowledge, knowledge_error: bits; None for free text and in older records.
        single: test accuracy gained over scratch by training from this source alone, if run.
    """

    name: str
    chosen: bool
    loss: float
    accuracy: float | None
    difference: float
    error: float | None = None
    form: float | None = None
    knowledge: float | None = None
    knowledge_error: float | None = None
    single: Difference | None = None


@dataclass(frozen=True)
class Spread:
    """Variance of one run over seeds, on one target: the mean over arms that have several."""

    accuracy: float
    loss: float


@dataclass(frozen=True)
class Target:
    """One task that the arms were trained on.

    Attributes:
        arms: at full budget; draws of one arm are one row.
        over, over_loss: mashup minus each other arm but scratch, test accuracy and loss, by name.
        ladder: empty when only full runs were made.
        ends: of every run of a grid of learning rates.
        sources: best first as far as known; ``base`` is the base model on the same sample.
        criterion: what sources were ranked by: ``knowledge``, ``loss`` or ``accuracy``.
        examples: number of test examples.
        commonest: test accuracy of the commonest answer, None in older records.
        spread: of runs over seeds, added to the intervals of single seeds; None where no arm
            has several.
        left_out: sources that were not used, with the share of the target's dev and test
            prompts that they were trained on.
        own_task: sources that were not used since the target is their own task, with the share
            of the target's training prompts that they were trained on (1 if the name says so).
        labels: number of training examples, 0 in older records.
    """

    task: str
    arms: tuple[ArmRow, ...]
    over: Mapping[str, Difference]
    over_loss: Mapping[str, Difference]
    ladder: tuple[Rung, ...]
    ends: tuple[End, ...]
    sources: tuple[Source, ...]
    base: Source | None
    examples: int
    criterion: str = "loss"
    commonest: float | None = None
    spread: Spread | None = None
    left_out: Mapping[str, float] = field(default_factory=dict)
    own_task: Mapping[str, float] = field(default_factory=dict)
    labels: int = 0

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

    def rung(self, arm: str, budget: float) -> Rung | None:
        """One rung of the ladder."""
        found = (rung for rung in self.ladder if (rung.arm, rung.budget) == (arm, budget))
        return next(found, None)

    def gain(self, arm: str) -> Difference | None:
        """Of test accuracy over scratch; None where it was not compared."""
        row = self.arm(arm)
        return row.accuracy_gain if row else None

    def seeds(self, arm: str, other: str = SCRATCH) -> int:
        """How many seeds two arms share."""
        mine, theirs = self.arm(arm), self.arm(other)
        return len(mine.seeds & theirs.seeds) if mine and theirs else 0

    def is_lone(self, arm: str, other: str = SCRATCH) -> bool:
        """Whether two arms share one seed, and the spread over seeds is that of other arms."""
        return self.spread is not None and self.seeds(arm, other) == 1


@dataclass(frozen=True)
class Contrast:
    """One arm against another over all targets that have both.

    Attributes:
        gains, losses: of test accuracy and loss, by target: arm minus other.
        gain, loss: their means over targets.
        examples: test examples of all these targets.
        seeds: that both arms have.
        is_lone: on one seed, with the spread over seeds of other arms in its intervals.
        p, p_loss: Wilcoxon's over targets; ``holm``, ``holm_loss`` adjusted within the study.
    """

    arm: str
    other: str
    gains: Mapping[str, Difference]
    losses: Mapping[str, Difference]
    gain: Difference
    loss: Difference
    examples: int
    seeds: int = 1
    is_lone: bool = False
    p: float | None = None
    p_loss: float | None = None
    holm: float | None = None
    holm_loss: float | None = None

    @property
    def tone(self) -> str:
        """Of test accuracy: ``better``, ``worse`` or ``within noise``."""
        return self.gain.verdict(higher_is_better=True)

    def count(self, verdict: str) -> int:
        """On how many targets the verdict on accuracy is this one."""
        return sum(d.verdict(higher_is_better=True) == verdict for d in self.gains.values())


@dataclass(frozen=True)
class LabelRow:
    """One arm with one number of labels, on a task that was trained with several.

    Attributes:
        task: name without the size; empty for the mean over tasks.
        accuracy: on test, mean over seeds, with its interval.
        gain: over scratch with as many labels; None for scratch.
        needed: labels that scratch needs for this accuracy: infinite for more than the largest
            number that was measured, 0 for fewer than the smallest. None for scratch.
    """

    task: str
    labels: int
    arm: str
    accuracy: Difference
    gain: Difference | None = None
    needed: Difference | None = None


@dataclass(frozen=True)
class FamilyRow:
    """One arm at one budget on the targets of one family: those whose names begin alike.

    Attributes:
        family: empty for the targets without a family, None for all that have one.
        targets: their names.
        accuracy: of the arm on test, mean over targets.
        gain: over scratch at the same budget, for these targets (examples and seeds).
        spread: the same with its interval over targets, for other targets of this kind; None for
            one target.
        full_gain: over scratch's run of all steps.
    """

    family: str | None
    arm: str
    budget: float
    targets: tuple[str, ...]
    accuracy: float
    gain: Difference
    spread: Difference | None = None
    full_gain: Difference | None = None


@dataclass(frozen=True)
class Study:
    """One experiment, or one comparison.

    Attributes:
        targets: the tasks; of one with several sizes (``NAME@SIZE``) the one called NAME. Means
            over targets are over these.
        sized: the other sizes.
        brief: targets of an unfinished experiment that have short runs only: nothing but a ladder.
        by_labels: arms by number of labels; empty where no task has several sizes.
        by_family: arms by family; empty where the names of targets have none.
        base: name of the base model, empty where it is not known.
        about: ``experiment.json`` or ``comparison.json``.
        files: names of the files that it was read from.
    """

    name: str
    base: str
    targets: tuple[Target, ...]
    contrasts: tuple[Contrast, ...]
    about: Mapping[str, Any]
    files: tuple[str, ...] = ()
    sized: tuple[Target, ...] = ()
    brief: tuple[Target, ...] = ()
    by_labels: tuple[LabelRow, ...] = ()
    by_family: tuple[FamilyRow, ...] = ()

    @property
    def only(self) -> Target | None:
        """The target of a study that has one; None of several."""
        return self.targets[0] if len(self.targets) == 1 else None

    @property
    def arms(self) -> tuple[str, ...]:
        """All arms, in the order in which they were recorded."""
        return tuple(dict.fromkeys(arm.name for target in self.targets for arm in target.arms))

    @property
    def seeds(self) -> tuple[int, ...]:
        runs = (run for target in self.targets for arm in target.arms for run in arm.runs)
        return tuple(sorted({run.seed for run in runs}))

    def rows(self, arm: str) -> tuple[ArmRow, ...]:
        """An arm on every target that has it."""
        return tuple(row for target in self.targets if (row := target.arm(arm)))

    def is_trained(self, arm: str) -> bool:
        return any(row.trained for row in self.rows(arm))

    def contrast(self, arm: str, other: str = SCRATCH) -> Contrast | None:
        return next((c for c in self.contrasts if (c.arm, c.other) == (arm, other)), None)

    @property
    def subject(self) -> str:
        """The arm that the verdict is about: mashup, else the first trained one but scratch."""
        others = [arm for arm in self.arms if arm != SCRATCH and self.is_trained(arm)]
        return MASHUP if MASHUP in self.arms else next(iter(others), "")
