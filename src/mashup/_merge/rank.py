"""How many rank directions of a merge keep a share of its energy."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


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
