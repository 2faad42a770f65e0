"""What a merge method is: a name, its source, and one of two pure functions.

A *mixing* method gives one coefficient a parent and tensor, so the merge is a weighted sum
of deltas and stays exact in factors. A *trimming* method changes each parent's delta number
by number before the sum, so it needs the delta itself, some rows at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mashup.errors import Problem, UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Settings:
    """Numbers that methods take.

    Attributes:
        scale: λ, a factor on the merged delta.
        density: share of a delta's numbers that is kept, in (0, 1].
        gamma: share of the largest numbers that breadcrumbs drops, in [0, 1).
        epsilon: half the width of della's range of probabilities.
        seed: of random methods and of random rotations.

    Raises:
        UsageError: a number that cannot be.
    """

    scale: float = 1.0
    density: float = 0.5
    gamma: float = 0.01
    epsilon: float = 0.1
    seed: int = 42

    def __post_init__(self) -> None:
        limits = (
            ("scale", math.isfinite(self.scale) and self.scale != 0, "a finite number, not 0"),
            ("density", 0 < self.density <= 1, "more than 0 (all is dropped), at most 1"),
            ("gamma", 0 <= self.gamma < 1, "at least 0, less than 1"),
            ("epsilon", 0 <= self.epsilon < 1, "at least 0, less than 1"),
        )
        wrong = [
            Problem("bad setting", f"--{name}", str(getattr(self, name)), expected)
            for name, fine, expected in limits
            if not fine
        ]
        if wrong:
            raise UsageError(*wrong)


#: Changes the rows of a delta that it is given, which come in order.
Trimmer = Callable[["Tensor"], "Tensor"]
#: A parent's delta of one tensor, rows after rows, float32; can be gone through again.
Rows = Callable[[], Iterable["Tensor"]]
Mix = Callable[["Tensor", Sequence[float]], tuple[float, ...]]
Trim = Callable[[Rows, int, Settings, "torch.Generator"], Trimmer]


@dataclass(frozen=True)
class Method:
    """One row of the table of methods.

    Attributes:
        name: as users give it.
        formula: with δ for a parent's delta, w for its weight, λ for the scale.
        paper: where it is from.
        mix: ``(gram, weights)`` to one coefficient a parent, before λ; ``gram (k, k)`` holds
            the inner products of the parents' deltas of one tensor.
        needs_gram: whether ``mix`` looks at ``gram``.
        trim: ``(rows, count, settings, generator)`` to what is done to the rows of one parent;
            ``count`` is how many numbers the tensor has.
        by_row: whether ``trim`` looks at whole rows, which cannot be cut into pieces then.
        elect: only parents of the elected sign are averaged, number by number (TIES).
        sums: weights are 1 each by default, not 1/k.
        takes: names of the settings that mean something to it.
        parents: least and most parents.
    """

    name: str
    formula: str
    paper: str
    mix: Mix | None = None
    needs_gram: bool = False
    trim: Trim | None = None
    by_row: bool = False
    elect: bool = False
    sums: bool = False
    takes: tuple[str, ...] = ()
    parents: tuple[int, int] = (1, 1_000_000)

    @property
    def is_sum(self) -> bool:
        """Whether it is one weighted sum, whatever the deltas are."""
        return self.trim is None and not self.needs_gram

    def check(self, settings: Settings, count: int) -> None:
        """Refuse a number of parents or settings that it cannot do.

        Raises:
            UsageError: too few or too many parents, or probabilities that are not above 0.
        """
        least, most = self.parents
        if "epsilon" in self.takes and settings.epsilon >= settings.density:
            found, expected = str(settings.epsilon), f"less than the density, {settings.density}"
            raise UsageError(Problem("bad setting", "`epsilon`", found, expected))
        if not least <= count <= most:
            expected = f"{least}" if least == most else f"at least {least}"
            where, fix = f"`method` {self.name}", "give others, or use `method` linear"
            raise UsageError(Problem("wrong number of parents", where, str(count), expected, fix))
