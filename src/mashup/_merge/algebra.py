"""The algebra of factored deltas: add, decompose, cut, and factor again.

For one module and parents ``i`` with weights ``w_i`` the merged delta is
``Σ w_i s_i B_i A_i``. Stacking gives ``L = [w_i s_i B_i]`` ``(d_out, R)`` and
``Rt = [A_i]`` ``(R, d_in)`` with ``R = Σ r_i``; QR of ``L`` and of ``Rtᵀ`` leaves an
``R × R`` core whose SVD is the SVD of the delta. Cost ``O((d_in + d_out) R² + R³)``;
``d_out × d_in`` is never made. All of it in float64.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mashup.delta import Factors, inner
from mashup.settings import FactorStyle

#: Norm of a row of A in PEFT's initialisation: kaiming_uniform(a=√5) draws from
#: U(-1/√d_in, 1/√d_in), whose variance is 1/(3·d_in).
_ROW_NORM = 1 / math.sqrt(3)
#: A randomised decomposition computes this many directions more than are wanted. It is used
#: where the matrix is this many times larger than that.
_OVERSAMPLE, _FAR_BELOW = 16, 4


@dataclass(frozen=True)
class Spectrum:
    """A delta ``U @ diag(S) @ Vt``: ``U (d_out, k)``, ``S (k,)`` descending, ``Vt (k, d_in)``."""

    U: Tensor
    S: Tensor
    Vt: Tensor

    @property
    def energy(self) -> Tensor:
        """``(k,)`` squared singular values; their sum is the squared Frobenius norm."""
        return self.S**2


def weighted_sum(parents: Sequence[tuple[float, Factors]]) -> Spectrum:
    """Spectrum of ``Σ w · s · B @ A`` over ``(w, factors)`` of one module, at least one."""
    left = torch.cat([w * f.scale * f.B.double() for w, f in parents], dim=1)
    right = torch.cat([f.A.double() for _, f in parents], dim=0)
    q_left, r_left = torch.linalg.qr(left)
    q_right, r_right = torch.linalg.qr(right.T)
    U, S, Vt = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    return Spectrum(q_left @ U, S, Vt @ q_right.T)


def squared(tensor: Tensor) -> float:
    """``‖tensor‖²`` in float64."""
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2


def rank_for_energy(share: float, spectra: Sequence[Tensor]) -> int:
    """The smallest rank that keeps ``share`` of the squared norm over all modules together.

    Entry ``i`` of ``spectra`` holds the singular values of module ``i``, in descending order.
    """
    total = sum(float((S**2).sum()) for S in spectra)
    most = max(len(S) for S in spectra)
    for rank in range(1, most):
        kept = sum(float((S[:rank] ** 2).sum()) for S in spectra)
        if kept >= share * total:
            return rank
    return most


def rounding_energy(exact: Factors, rounded: Factors) -> float:
    """``‖Δ - Δ'‖²`` of factors and the same ones rounded.

    ``BA - B'A' = (B - B')A + B'(A - A')``: differences are taken in the factors, where they are
    small. Nothing cancels, and no ``d_out × d_in`` matrix is made.
    """
    A, B = rounded.A.double(), rounded.B.double()
    left = Factors(exact.A, exact.B - B, exact.scale)
    right = Factors(exact.A - A, B, exact.scale)
    return float(inner(left, left) + 2 * inner(left, right) + inner(right, right))


def dense_spectrum(delta: Tensor, rank: int | None, generator: torch.Generator) -> Spectrum:
    """The largest singular values of a dense ``(d_out, d_in)`` delta, float64.

    All of them where ``rank`` is None or not far below the size. Otherwise the first ``rank``, by
    a randomised range finder with two power iterations (Halko et al., arXiv 0909.4061,
    algorithm 4.4).
    """
    delta = delta.float()
    wanted = None if rank is None else rank + _OVERSAMPLE
    if wanted is None or _FAR_BELOW * wanted >= min(delta.shape):
        U, S, Vt = torch.linalg.svd(delta, full_matrices=False)
        return Spectrum(U.double(), S.double(), Vt.double())
    Q = torch.linalg.qr(delta @ torch.randn(delta.shape[1], wanted, generator=generator))[0]
    for _ in range(2):
        Q = torch.linalg.qr(delta @ torch.linalg.qr(delta.T @ Q)[0])[0]
    U, S, Vt = torch.linalg.svd(Q.T @ delta, full_matrices=False)
    return Spectrum((Q @ U)[:, :rank].double(), S[:rank].double(), Vt[:rank].double())


def factorise(
    spectrum: Spectrum, rank: int, scale: float, style: FactorStyle, generator: torch.Generator
) -> Factors:
    """Factors of ``rank`` whose ``scale · B @ A`` is the best approximation of that rank.

    All styles give the same delta. They differ in how training continues from it.

    - ``balanced``: ``B = U√S``, ``A = √S Vᵀ``.
    - ``initialised``: rows of A orthogonal, with the norm of PEFT's own initialisation
      (1/√3), and the rest in B. Rows that the delta does not need are random, with B = 0.
    - ``rotated``: the same, rotated by a random orthogonal matrix, so that no rank
      direction holds most of the energy.
    """
    kept = min(rank, len(spectrum.S))
    U, S, Vt = spectrum.U[:, :kept], spectrum.S[:kept], spectrum.Vt[:kept]
    U = torch.cat([U, U.new_zeros(U.shape[0], rank - kept)], dim=1)
    S = torch.cat([S, S.new_zeros(rank - kept)])
    Vt = _complete(Vt, rank, generator)
    if style == "balanced":
        root = (S / scale).sqrt()
        return Factors(root[:, None] * Vt, U * root, scale)
    A, B = _ROW_NORM * Vt, U * (S / (_ROW_NORM * scale))
    if style == "rotated":
        turn = random_orthogonal(rank, generator)
        A, B = turn @ A, B @ turn.T
    return Factors(A, B, scale)


def _complete(rows: Tensor, rank: int, generator: torch.Generator) -> Tensor:
    """Add random rows, orthonormal to ``rows`` and to each other, up to ``rank`` of them."""
    missing = rank - rows.shape[0]
    if missing <= 0:
        return rows
    extra = torch.randn(missing, rows.shape[1], dtype=rows.dtype, generator=generator)
    for _ in range(2):  # twice: rounding of the first projection is projected out as well
        extra = extra - (extra @ rows.T) @ rows
    return torch.cat([rows, torch.linalg.qr(extra.T)[0].T])


def random_orthogonal(size: int, generator: torch.Generator) -> Tensor:
    """A ``(size, size)`` orthogonal matrix, uniform by Haar's measure (arXiv math-ph/0609050)."""
    gauss = torch.randn(size, size, dtype=torch.float64, generator=generator)
    q, r = torch.linalg.qr(gauss)
    return q * torch.sign(torch.diagonal(r))


def generator_for(seed: int, module: str) -> torch.Generator:
    """A generator seeded by ``seed`` and the module's name, whatever the order of work."""
    digest = hashlib.sha256(f"{seed}:{module}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
