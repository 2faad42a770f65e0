"""The slope of the loss along any donor, from one backward pass: ``<G, s·B·A>``.

The loss of base + point + t·delta has at ``t = 0`` the slope ``Σ s·<B, G·Aᵀ>``, where
``G = DᵀX`` is the gradient in a module's weight, with its inputs ``X`` and output gradients
``D``. ``G`` is made once; donors come one after the other, so there may be any number of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mashup._score.gradient.capture import Losses, backpropagate
from mashup._score.gradient.point import BASE, Point, module_of
from mashup.delta import Delta, Factors
from mashup.evaluate.batches import Batch
from mashup.progress import SILENT, Progress


@dataclass(frozen=True)
class Gradient:
    """Of the sample's loss in nats per answer token, at a point.

    Attributes:
        matrices: module name to ``G (d_out, d_in)`` in float32, on the model's device.
        losses: of the examples at the point.
    """

    matrices: Mapping[str, Tensor]
    losses: Losses


def gradient_at(
    model: Any,
    batches: Sequence[Batch],
    names: Collection[str],
    *,
    point: Point = BASE,
    progress: Progress = SILENT,
) -> Gradient:
    """``G`` of the modules ``names``, accumulated over all batches in float32.

    Memory: four bytes for each weight of these modules. The result does not depend on batches.

    Raises:
        InputError: a module that the base does not have.
    """
    matrices = {name: _empty(module_of(model, name)) for name in names}

    def add(batch: Batch, name: str, x: Tensor, d: Tensor) -> None:
        d = d.reshape(-1, d.shape[-1])
        if x.is_floating_point():
            matrices[name].addmm_(d.T, x.reshape(-1, x.shape[-1]).float())
        else:
            matrices[name].index_add_(1, x.reshape(-1), d.T)

    losses = backpropagate(model, batches, names, add, point=point, progress=progress)
    total = int(losses.tokens.sum())
    for matrix in matrices.values():
        matrix.div_(total)
    return Gradient(matrices, losses)


def _empty(module: Any) -> Tensor:
    """Zeros ``(d_out, d_in)``; embeddings and GPT-2's Conv1D store theirs the other way round."""
    linear = isinstance(module, torch.nn.Linear)
    shape = module.weight.shape if linear else module.weight.shape[::-1]
    return torch.zeros(shape, dtype=torch.float32, device=module.weight.device)


def directional(gradient: Gradient, delta: Delta) -> float:
    """Slope of the loss along a donor, nats per answer token for a whole step: lower is better."""
    parts = (_slope(gradient.matrices[name], f) for name, f in delta.modules.items())
    return float(sum(parts))


def _slope(matrix: Tensor, factors: Factors) -> float:
    right, left = factors.A.to(matrix), factors.B.to(matrix)
    return factors.scale * float(((matrix @ right.T) * left).sum(dtype=torch.float64))


def norm(delta: Delta) -> float:
    """Frobenius norm of a donor: ``|s·B·A|² = s²·<BᵀB, A·Aᵀ>``."""
    squares = (f.scale**2 * ((f.B.T @ f.B) * (f.A @ f.A.T)).sum() for f in delta.modules.values())
    return float(sum(map(float, squares))) ** 0.5
