"""What past tasks say of donors: a low-rank model of the ledger with missing entries.

Probabilistic principal components (Tipping and Bishop, 1999): a donor's standardised value on a
task is the product of a few factors of the donor and loadings of the task, and noise. Missing
entries are filled by the model and the model is fitted again (Roweis, 1998).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

RANK = 3
_ROUNDS = 10  # of filling
_WEIGHT = 1  # of all donors' noise beside a donor's own, counted in entries
_TINY = 1e-9


@dataclass(frozen=True)
class Factors:
    """The ledger as factors: a past task's standardised column is about ``values @ loadings``.

    Attributes:
        values: (donors × rank), zero for a donor that was never measured.
        usual: (rank,) mean loadings of the past tasks; loadings have mean square 1.
        noise: (donors,) variance of what the factors leave unsaid, in standardised units.
        past: (donors × tasks) standardised values, NaN where unknown.
    """

    values: Array
    usual: Array
    noise: Array
    past: Array

    def __len__(self) -> int:
        return len(self.values)


def learn(history: Array, rank: int = RANK) -> Factors:
    """Fit the factors of ``history (donors × past tasks)``, NaN where unknown.

    Tasks differ in units, so each is centred and scaled; a task on which all donors are equal,
    or fewer than two are known, says nothing and is left out.
    """
    past = _standardised(np.asarray(history, float))
    if not past.size:
        return Factors(np.zeros((len(past), 0)), np.zeros(0), np.ones(len(past)), past)
    known = np.isfinite(past)
    filled = _filled(past, known, rank)
    past, filled = _restandardised(past, filled)
    _, scales, axes = np.linalg.svd(filled, full_matrices=False)
    kept = scales[:rank] > _TINY * scales[0]
    spread = scales[:rank][kept] ** 2 / filled.size
    loadings = axes[:rank][kept].T * np.sqrt(past.shape[1])
    values, noise = _donors(past, known, loadings, spread)
    return Factors(values, loadings.mean(axis=0), noise, past)


def _standardised(history: Array) -> Array:
    known = np.isfinite(history)
    count = np.maximum(known.sum(axis=0), 1)
    values = np.where(known, history, 0.0)
    offsets = np.where(known, history - values.sum(axis=0) / count, 0.0)
    scale = np.sqrt((offsets**2).sum(axis=0) / count)
    told = scale > _TINY * np.maximum(np.abs(values).max(axis=0, initial=0.0), _TINY)
    return np.where(known, offsets / np.where(told, scale, 1.0), np.nan)[:, told]


def _filled(past: Array, known: NDArray[np.bool_], rank: int) -> Array:
    """Unknown entries by the low-rank model.

    The centre is that of the filled column: who is measured on a task is often the better half.
    """
    filled = np.where(known, past, 0.0)
    for _ in range(0 if known.all() else _ROUNDS):
        centre = filled.mean(axis=0)
        offsets = filled - centre
        axes = np.linalg.eigh(offsets.T @ offsets).eigenvectors[:, -rank:]
        filled = np.where(known, past, centre + offsets @ axes @ axes.T)
    return filled


def _restandardised(past: Array, filled: Array) -> tuple[Array, Array]:
    centre = filled.mean(axis=0)
    scale = np.sqrt(((filled - centre) ** 2).mean(axis=0))
    return (past - centre) / scale, (filled - centre) / scale


def _donors(
    past: Array, known: NDArray[np.bool_], loadings: Array, spread: Array
) -> tuple[Array, Array]:
    """Factors of each donor from its known entries, and the variance that is left.

    Ridge with the spread of the factors as prior: few entries give small factors, none give zero.
    """
    values = np.where(known, past, 0.0)
    unsaid = max(1.0 - spread.sum(), _TINY)
    seen = np.einsum("dt,tr,ts->drs", known.astype(float), loadings, loadings)
    doubt = np.linalg.inv(seen / unsaid + np.diag(1.0 / spread))
    factors = np.einsum("drs,ds->dr", doubt, values @ loadings / unsaid)
    missed = (np.where(known, past - factors @ loadings.T, 0.0) ** 2).sum(axis=1)
    own = (missed + _WEIGHT * unsaid) / (known.sum(axis=1) + _WEIGHT)
    return factors, own + np.trace(doubt, axis1=1, axis2=2)
