"""How many rank directions a merged adapter keeps: ``sum``, ``max``, a number, or ``energy=X``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mashup.delta import Delta
from mashup.errors import Problem, UsageError
from mashup.merge.algebra import Spectrum

_EXPECTED = "sum, max, a whole number of at least 1, or energy=X with 0 < X <= 1"


def choose_rank(rank: str | int, parents: Sequence[Delta], spectra: Mapping[str, Spectrum]) -> int:
    """The one rank that the merged adapter gets.

    ``sum`` keeps everything: the largest sum of the parents' ranks over the modules.
    ``max`` is the largest rank of any parent. ``energy=X`` is the smallest rank that keeps
    the share X of the squared norm, over all modules together.

    Raises:
        UsageError: not one of these.
    """
    text = str(rank)
    most = max(len(spectrum.S) for spectrum in spectra.values())
    if text == "sum":
        return most
    if text == "max":
        return max(factors.rank for delta in parents for factors in delta.modules.values())
    if text.isdigit() and int(text) > 0:
        return int(text)
    share = _share(text)
    ranks = range(1, most + 1)
    return next((r for r in ranks if kept_energy(spectra, r) >= share), most)


def kept_energy(spectra: Mapping[str, Spectrum], rank: int) -> float:
    """Share of the squared Frobenius norm, over all modules, that ``rank`` directions keep."""
    total = sum(float(spectrum.energy.sum()) for spectrum in spectra.values())
    kept = sum(float(spectrum.energy[:rank].sum()) for spectrum in spectra.values())
    return kept / total if total else 1.0


def _share(text: str) -> float:
    name, _, value = text.partition("=")
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if name != "energy" or not 0 < share <= 1:
        raise UsageError(Problem("bad rank", "--rank", text, _EXPECTED))
    return share
