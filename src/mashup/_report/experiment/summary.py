"""The values that the tables and pictures of an experiment show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mashup._report.experiment.seeds import Spread
from mashup._report.summary import MASHUP, SCRATCH, Armed, ArmRow, Rung
from mashup.results.statistics import Difference


@dataclass(frozen=True)
class End:
    """Where one run of a grid of learning rates ended; nothing when it diverged."""

    arm: str
    seed: int
    rate: float
    dev_loss: float | None
    test_accuracy: float | None
    test_loss: float | None


@dataclass(frozen=True)
class Relevance:
    """A donor on the sample of a target.

    Attributes:
        gain: loss of the base minus that of the donor, nats an answer token; more is better.
        chosen: whether it went into the merge.
        single: test accuracy gained over scratch by training from this donor alone, where run.
    """

    donor: str
    gain: float
    chosen: bool
    single: Difference | None


@dataclass(frozen=True)
class Target(Armed):
    """One task that was left out.

    Attributes:
        arms: at full budget; draws of one arm are one row.
        over: mashup minus each other arm on test accuracy, by its name; ``over_loss`` on loss.
        ladder: empty when only full runs were made.
        examples: test examples.
        spread: of runs over seeds; it is in every interval, None where no arm has several.
        left_out: donors that were not used, with the share of the target's dev and test prompts
            that they were trained on.
    """

    task: str
    arms: tuple[ArmRow, ...]
    over: Mapping[str, Difference]
    over_loss: Mapping[str, Difference]
    ladder: tuple[Rung, ...]
    ends: tuple[End, ...]
    relevance: tuple[Relevance, ...]
    examples: int
    commonest: float | None = None
    spread: Spread | None = None
    left_out: Mapping[str, float] = field(default_factory=dict)

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
        seeds: that both arms have.
        is_lone: on one seed, with the spread over seeds of other arms in its intervals.
        p, p_loss: Wilcoxon's over targets; ``holm``, ``holm_loss`` adjusted within the experiment.
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

    def count(self, verdict: str) -> int:
        """In how many targets the verdict on accuracy is this one."""
        return sum(d.verdict(higher_is_better=True) == verdict for d in self.gains.values())


@dataclass(frozen=True)
class Study:
    """One experiment.

    Attributes:
        base: name of the base model, empty when ``experiment.json`` is not there.
        about: ``experiment.json``.
    """

    name: str
    base: str
    targets: tuple[Target, ...]
    contrasts: tuple[Contrast, ...]
    about: Mapping[str, Any]

    @property
    def arms(self) -> tuple[str, ...]:
        """All arms, in the order in which they were recorded."""
        return tuple(dict.fromkeys(arm.name for target in self.targets for arm in target.arms))

    @property
    def seeds(self) -> tuple[int, ...]:
        runs = (run for target in self.targets for arm in target.arms for run in arm.runs)
        return tuple(sorted({run.seed for run in runs}))

    @property
    def legend(self) -> tuple[ArmRow, ...]:
        """One row of each arm, for legends."""
        return tuple(self.rows(arm)[0] for arm in self.arms)

    def rows(self, arm: str) -> tuple[ArmRow, ...]:
        """An arm on every target that has it."""
        return tuple(row for target in self.targets if (row := target.arm(arm)))

    def contrast(self, arm: str, other: str = SCRATCH) -> Contrast | None:
        return next((c for c in self.contrasts if (c.arm, c.other) == (arm, other)), None)

    @property
    def subject(self) -> Contrast | None:
        """What the verdict is about: mashup against scratch, else the first of all."""
        return self.contrast(MASHUP) or next(iter(self.contrasts), None)
