"""How many rank directions a merged adapter keeps: ``sum``, ``max``, a number, or ``energy=X``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mashup.errors import Problem, UsageError

_EXPECTED = "sum, max, a whole number of at least 1, or energy=X with 0 < X <= 1"


@dataclass(frozen=True)
class Rank:
    """A rank as users ask for it.

    Attributes:
        text: as given.
        number: when it is a number.
        share: when it is ``energy=X``.
    """

    text: str
    number: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, rank: str | int) -> Rank:
        """Read ``sum``, ``max``, a number or ``energy=X``.

        Raises:
            UsageError: none of these.
        """
        text = str(rank)
        if text in ("sum", "max"):
            return cls(text)
        if text.isascii() and text.isdigit() and int(text) > 0:
            return cls(text, number=int(text))
        return cls(text, share=_share(text))

    def of(self, ranks: Sequence[Sequence[int]]) -> int | None:
        """The rank, from the parents' ranks in every module; None when spectra decide.

        ``sum`` keeps everything: the largest sum over the modules. ``max`` is the largest rank
        of any parent.
        """
        if self.share is not None:
            return None
        if self.number is not None:
            return self.number
        combine = sum if self.text == "sum" else max
        return max(combine(module) for module in ranks)


def rank_for_energy(share: float, spectra: Sequence[Tensor]) -> int:
    """The smallest rank that keeps ``share`` of the squared norm over all modules together.

    Entry ``i`` of ``spectra`` holds the singular values of module ``i``, falling.
    """
    total = sum(float((S**2).sum()) for S in spectra)
    most = max(len(S) for S in spectra)
    for rank in range(1, most):
        kept = sum(float((S[:rank] ** 2).sum()) for S in spectra)
        if kept >= share * total:
            return rank
    return most


def _share(text: str) -> float:
    name, _, value = text.partition("=")
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if name != "energy" or not 0 < share <= 1:
        raise UsageError(Problem("bad rank", "--rank", text, _EXPECTED))
    return share
