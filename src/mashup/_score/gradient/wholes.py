"""Whole models predicted from one backward pass at their mean: ``<G, W - W0>``, streamed.

Covered are matrices of linear layers, GPT-2's Conv1D, embeddings and the head; norms and biases
are few numbers and left out. Memory: eight bytes for each weight of the base, however many models
there are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mashup._score.gradient.directional import Gradient, gradient_at
from mashup._score.gradient.point import Point
from mashup._score.gradient.rank import PASS, STEP, GradientScores
from mashup.evaluate.batches import Batch
from mashup.model import Base
from mashup.model.whole import read_whole
from mashup.progress import SILENT, Progress


def rank_wholes(
    base: Base, folders: Sequence[Path], batches: Sequence[Batch], *, progress: Progress = SILENT
) -> GradientScores:
    """Predict how well whole models fit: the loss half way from their mean to each, to first order.

    Raises:
        InputError: unreadable, or a model of another base.
    """
    begin = time.perf_counter()
    point = mean_of_wholes(base.model, folders, progress)
    gradient = gradient_at(base.model, batches, list(point), point=point, progress=progress)
    found = [_slope_and_norm(gradient, base.model, folder) for folder in folders]
    slopes, norms = np.array(found).T
    values = gradient.losses.mean + STEP * (slopes - slopes.mean())
    examples = sum(len(batch.rows) for batch in batches)
    return GradientScores(values, norms, time.perf_counter() - begin, PASS * examples)


def mean_of_wholes(model: Any, folders: Sequence[Path], progress: Progress = SILENT) -> Point:
    """The mean of ``W - W0`` of every module, ``(d_out, d_in)`` float32, one model at a time."""
    total: dict[str, Tensor] = {}
    with progress.bar("averaging", len(folders)) as advance:
        for folder in folders:
            for name, change in changes_of_modules(model, folder):
                mean = change / len(folders)
                total[name] = total[name].add_(mean) if name in total else mean
            advance()
    return total


def whole_slope(gradient: Gradient, model: Any, folder: Path) -> float:
    """Slope of the loss along a whole model, nats per answer token for the whole way to it."""
    return _slope_and_norm(gradient, model, folder)[0]


def _slope_and_norm(gradient: Gradient, model: Any, folder: Path) -> tuple[float, float]:
    slope = square = 0.0
    for name, change in changes_of_modules(model, folder):
        slope += float((gradient.matrices[name] * change).sum(dtype=torch.float64))
        square += float(change.square().sum(dtype=torch.float64))
    return slope, square**0.5


def changes_of_modules(model: nn.Module, folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Module name and ``W - W0 (d_out, d_in)`` in float32; both modules of a tied pair."""
    values = read_whole(model, folder).saved
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() == 2 and id(weight) in names:
            change = (
                values[names[id(weight)]].to(weight.device, torch.float32) - weight.detach().float()
            )
            yield name, change if isinstance(module, nn.Linear) else change.T.contiguous()
