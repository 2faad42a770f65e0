"""Sketches: a few numbers of a delta that keep its angle to all others.

Each module's ``s·B·A`` is multiplied from both sides by random sparse sign matrices and the
small results are added up: ``S = Σ_m P_mᵀ (s B_m A_m) Q_m``, ``(32, 32)``. Inner products of
sketches estimate those of deltas without bias (count sketch: Charikar, Chen and Farach-Colton,
2002; of a product from its factors: Pagh, arXiv 1108.1320). A sketch is linear, so the
error of a cosine vanishes with the difference of two deltas, which is where it decides.

Signs and buckets come from SHAKE-256 of the module's name, so sketches that were made at other
times, on other machines and with other versions of libraries can be compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mashup.delta import Delta, Factors

#: Name of a tensor to the base's value; None where the base has none (a new head).
BaseTensor = Callable[[str], Tensor | None]

SIDE = 32  # a power of two up to 128, so that a bucket and a sign fit one byte
SIZE = SIDE * SIDE
#: Names the way of sketching; what was kept under another name cannot be compared.
SCHEME = f"count-sketch-{SIDE}.2"


def sketch(delta: Delta, base: BaseTensor | None = None) -> NDArray[np.float32]:
    """``(SIZE,)`` float32 whose inner products estimate those of deltas; 4 kB.

    Args:
        delta: an adapter's.
        base: the base's tensors by name; needed where values or rows are saved.

    Raises:
        ValueError: there are saved values or rows and no base.
    """
    total = torch.zeros(SIDE, SIDE)
    for name, change in changes(delta, base):
        total += _of_factors(name, change) if isinstance(change, Factors) else _of(name, change)
    return total.flatten().numpy()


def to_bytes(values: NDArray[np.float32]) -> bytes:
    """A sketch as bytes for an index, the same on all machines."""
    return values.astype("<f4").tobytes()


def from_bytes(kept: bytes) -> NDArray[np.float32]:
    """The sketch of :func:`to_bytes`.

    Raises:
        ValueError: these are not the bytes of a sketch.
    """
    if len(kept) != 4 * SIZE:
        raise ValueError(f"a sketch has {4 * SIZE} bytes, these are {len(kept)}")
    return np.frombuffer(kept, "<f4").astype(np.float32)


def _of_factors(name: str, factors: Factors) -> Tensor:
    """``Σ_e P_eᵀ (s B_e A_e) Q``: each expert has its own ``P``, which keeps experts apart."""
    right, left = factors.stacked()
    experts, rank = len(left), left.shape[-1]
    folded = _folded(f"{name}:out", left.reshape(-1, rank), experts)
    folded = folded.reshape(experts, SIDE, rank).permute(1, 0, 2).reshape(SIDE, -1)
    inputs = right.reshape(-1, right.shape[-1])
    return factors.scale * (folded @ _folded(f"{name}:in", inputs.T).T)


def _of(name: str, change: Tensor) -> Tensor:
    """``Pᵀ ΔW Q`` of a difference of values, of any shape; a weight's as its module's LoRA's."""
    seed = name.removesuffix(".weight")
    matrix = change.reshape(len(change), -1)
    return _folded(f"{seed}:in", _folded(f"{seed}:out", matrix).T).T


def _folded(seed: str, rows: Tensor, blocks: int = 1) -> Tensor:
    """``(blocks · SIDE, n)``: each row of ``(blocks · d, n)``, with its sign, in its bucket."""
    places, signs = _drawn(seed, len(rows), blocks)
    signed = rows.float() * signs[:, None]
    return torch.zeros(blocks * SIDE, rows.shape[1]).index_add_(0, places, signed)


@lru_cache(maxsize=1 << 12)
def _drawn(seed: str, count: int, blocks: int) -> tuple[Tensor, Tensor]:
    """Bucket and sign of each of ``count`` rows; the same for all adapters of a module."""
    drawn = hashlib.shake_256(seed.encode()).digest(count)
    codes = torch.from_numpy(np.frombuffer(drawn, np.uint8).astype(np.int64))
    block = torch.arange(count) // max(1, count // blocks)
    return block * SIDE + codes % SIDE, 1.0 - 2.0 * (codes >= 128)


# -- what a delta changes


def changes(delta: Delta, base: BaseTensor | None = None) -> Iterator[tuple[str, Factors | Tensor]]:
    """Names of modules with their factors, of tensors and of their rows with ``W - W0``.

    One after the other, so that of a full checkpoint there is one tensor in memory at a time.

    A tensor that the base lacks, and rows that its vocabulary lacks, are changes as a whole.
    What lies under a copied module (``Delta.originals``) is left out: it is the base's own,
    resized.

    Args:
        delta: an adapter's.
        base: the base's tensors by name; needed where values or rows are saved.

    Raises:
        ValueError: there are saved values or rows and no base.
    """
    if (delta.saved or delta.rows) and base is None:
        raise ValueError("this delta has saved values; to compare them takes the base's")
    yield from delta.modules.items()
    yield from _values(delta, base)
    yield from _rows(delta, base)


def _values(delta: Delta, base: BaseTensor | None) -> Iterator[tuple[str, Tensor]]:
    """Saved values and biases; where a bias is both, the sum of its changes."""
    shifts = {name: scale * bias.float() for name, (scale, bias) in delta.biases.items()}
    for name, value in delta.saved.items():
        change = _minus(value, base(name) if base else None)
        yield name, change + shifts.pop(name) if name in shifts else change
    yield from shifts.items()


def _rows(delta: Delta, base: BaseTensor | None) -> Iterator[tuple[str, Tensor]]:
    """Each row by its own name, so that adapters with other rows meet in those that both have."""
    for name, (ids, rows) in delta.rows.items():
        old = delta.saved.get(name)
        old = base(name) if old is None and base else old
        for token, row in zip(ids, rows, strict=True):
            before = None if old is None or token >= len(old) else old[token]
            yield f"{name}[{token}]", _minus(row, before)


def _minus(value: Tensor, old: Tensor | None) -> Tensor:
    """``W - W0`` in float32; a larger vocabulary has rows that the base lacks."""
    made = value.to(torch.float32, copy=True)
    if old is not None:
        rows = min(len(made), len(old))
        made[:rows] -= old[:rows].detach().to(made)
    return made
