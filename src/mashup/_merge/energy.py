"""How well what is written holds the exact merge, as squared norms that can be added."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from mashup._merge.weighted import Piece


@dataclass(frozen=True)
class Energy:
    """Squared norms over some tensors.

    Attributes:
        total: of the exact delta.
        kept: of what the rank keeps of it.
        error: of the difference between what is written and the exact merge.
        parts: of what was summed up, each parent at its full length.
        changed: how many tensors are not the base's.
    """

    total: float = 0.0
    kept: float = 0.0
    error: float = 0.0
    parts: float = 0.0
    changed: int = 0

    def __add__(self, other: Energy) -> Energy:
        return Energy(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def energy_of(piece: Piece, written: Tensor) -> Energy:
    """The energies of one piece as it is written.

    The change is compared before it is added to the base: rounded into a float32 sum, what is
    lost could not be seen any more.
    """
    if piece.base is None or piece.delta is None:
        return Energy(changed=1)
    moved = written.to(piece.rows.dtype, copy=True).sub_(piece.base)
    changed = bool(moved.any())
    total = squared(piece.delta)
    return Energy(total, total, squared(moved.sub_(piece.delta)), changed=int(changed))


def squared(tensor: Tensor) -> float:
    """``‖tensor‖²`` in float64."""
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2
