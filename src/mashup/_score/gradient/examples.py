"""Slopes of every example's loss along a few donors, from one backward pass.

With donors stacked into ``A (Σr, d_in)`` and ``B (d_out, Σr)``, the slopes of a token are
``(X·Aᵀ) ⊙ (D·B)``, summed over modules, over each donor's ranks and over an example's tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mashup._score.gradient.capture import Losses, backpropagate
from mashup._score.gradient.point import BASE, Point, module_of, times
from mashup.delta import Delta, Factors
from mashup.evaluate.batches import Batch
from mashup.progress import SILENT, Progress


@dataclass(frozen=True)
class Slopes:
    """At a point: of each example along each donor.

    Attributes:
        each: ``(n, N)`` slopes of an example's summed loss, for a whole step along a donor.
        losses: of the examples at the point.
    """

    each: NDArray[np.float64]
    losses: Losses

    @property
    def mean(self) -> NDArray[np.float64]:
        """``(N,)`` slopes ``g`` of the sample's loss, in nats per answer token."""
        return self.each.sum(0) / self.losses.tokens.sum()

    def fisher(self, ridge: float = 0.0) -> NDArray[np.float64]:
        """``(N, N)`` empirical Fisher ``H = SᵀS/tokens`` along the donors.

        It stands for the curvature of the same loss per token that ``mean`` is the slope of.
        ``ridge`` is added to the diagonal, in units of its mean.
        """
        square = self.each.T @ self.each / self.losses.tokens.sum()
        return square + ridge * np.diag(square).mean() * np.eye(len(square))


@dataclass(frozen=True)
class _Stack:
    """All donors' factors of one module, and whose column each rank is."""

    A: Tensor
    B: Tensor
    owner: Tensor


def slopes_at(
    model: Any,
    batches: Sequence[Batch],
    deltas: Sequence[Delta],
    *,
    point: Point = BASE,
    progress: Progress = SILENT,
) -> Slopes:
    """Slopes of every example along every donor; all donors are in memory at once.

    Raises:
        InputError: a module that the base does not have.
    """
    names = dict.fromkeys(name for delta in deltas for name in delta.modules)
    stacks = {name: _stacked(name, deltas, module_of(model, name).weight.device) for name in names}
    found = torch.zeros(sum(len(batch.rows) for batch in batches), len(deltas), dtype=torch.float64)

    def add(batch: Batch, name: str, x: Tensor, d: Tensor) -> None:
        stack = stacks[name]
        products = times(x, stack.A) * (d @ stack.B)
        products = products.reshape(-1, products.shape[-1])
        rows = torch.zeros(len(batch.rows), products.shape[-1], device=products.device)
        rows.index_add_(0, _examples(batch, len(products)).to(products.device), products)
        columns = torch.zeros(len(rows), len(deltas), device=products.device)
        columns.index_add_(1, stack.owner, rows)
        found.index_add_(0, batch.rows, columns.double().cpu())

    losses = backpropagate(model, batches, names, add, point=point, progress=progress)
    return Slopes(found.numpy(), losses)


def _stacked(name: str, deltas: Sequence[Delta], device: torch.device) -> _Stack:
    have: Mapping[int, Factors] = {
        place: delta.modules[name] for place, delta in enumerate(deltas) if name in delta.modules
    }
    owner = [place for place, factors in have.items() for _ in range(factors.rank)]
    return _Stack(
        torch.cat([f.A for f in have.values()]).float().to(device),
        torch.cat([f.B * f.scale for f in have.values()], 1).float().to(device),
        torch.tensor(owner, device=device),
    )


def _examples(batch: Batch, count: int) -> Tensor:
    """The example within ``batch`` that each of ``count`` rows of a module belongs to.

    A module sees all positions but the last, which predicts nothing, or only those that predict
    answers (the head).
    """
    examples, length = len(batch.ids), batch.ids.shape[1] - 1
    if count == examples * length:
        return torch.arange(examples).repeat_interleave(length)
    places = batch.positions.nonzero()[:, 0]
    if count != len(places):
        raise ValueError(f"{count} rows are neither all positions nor the answers'")
    return places
