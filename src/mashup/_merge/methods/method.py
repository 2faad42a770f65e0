"""What a merge method is: a name, its source, and one of two pure functions.

A *mixing* method gives one coefficient per parent and tensor. The merge is then a weighted sum
of deltas and stays exact in factors. A *trimming* method changes each parent's delta number by
number before the sum, so it needs the dense delta, some rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mashup.errors import Problem

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mashup.settings import MergeSettings

#: Changes the rows of a delta, which are given in order.
Trimmer = Callable[["Tensor"], "Tensor"]
#: A parent's delta of one tensor in float32, some rows at a time; each call starts again.
Rows = Callable[[], Iterable["Tensor"]]
Mix = Callable[["Tensor", Sequence[float]], tuple[float, ...]]
Trim = Callable[[Rows, int, "MergeSettings", "torch.Generator"], Trimmer]


@dataclass(frozen=True)
class Method:
    """One row of the table of methods.

    Attributes:
        name: as users give it.
        formula: with δ for a parent's delta, w for its weight, λ for the scale.
        paper: the source.
        mix: ``(gram, weights)`` to one coefficient per parent, before λ. ``gram (k, k)`` holds
            the inner products of the parents' deltas of one tensor.
        needs_gram: whether ``mix`` uses ``gram``.
        trim: ``(rows, count, settings, generator)`` to the function that changes the rows of one
            parent. ``count`` is the number of entries of the tensor.
        by_row: whether ``trim`` ranks numbers within a row, so that a row cannot be split.
        elect: whether only parents with the elected sign are averaged, number by number (TIES).
        sums: whether the default weights are 1 each, instead of 1/k.
        takes: names of the settings that it uses.
        parents: the fewest and the most parents.
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
        """Whether the merge is one weighted sum with the given weights."""
        return self.trim is None and not self.needs_gram

    def problems(self, settings: MergeSettings, count: int) -> list[Problem]:
        """Settings and a number of parents that the method cannot use."""
        least, most = self.parents
        problems = []
        if "epsilon" in self.takes and settings.epsilon >= settings.density:
            found, expected = str(settings.epsilon), f"less than the density, {settings.density}"
            problems.append(Problem("bad setting", "`epsilon`", found, expected))
        if not least <= count <= most:
            expected = f"{least}" if least == most else f"at least {least}"
            where, fix = f"`method` {self.name}", "give others, or use `method` linear"
            problems.append(Problem("wrong number of parents", where, str(count), expected, fix))
        return problems
