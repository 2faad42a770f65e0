"""Where the loss is linearised: the base plus a weighted sum of donors, exact and streamed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mashup.delta import Factors, read_delta
from mashup.errors import InputError, Problem
from mashup.model.apply import adapted, embed_scale
from mashup.progress import SILENT, Progress

#: Module name to what is added to its weight: stacked factors, or ``(d_out, d_in)`` in float32.
Point = Mapping[str, Factors | Tensor]

BASE: Point = {}


def mean_of(folders: Sequence[Path], progress: Progress = SILENT) -> Point:
    """The exact mean of the donors' deltas: what a uniform linear merge computes."""
    return weighted_sum(folders, [1 / len(folders)] * len(folders), progress)


def weighted_sum(
    folders: Sequence[Path], weights: Sequence[float], progress: Progress = SILENT
) -> Point:
    """``Σ w·s·B·A`` of each module in float32, one donor in memory at a time.

    A few donors stay in factors; once these would be larger than the matrix, they are multiplied
    out. So memory never exceeds four bytes for each weight of the adapted modules (425 MB for
    all linear layers of a 135M model, 26 GB of a 7B model), however many donors there are.

    Args:
        folders: LoRA folders that :func:`mashup._score.gradient.uncovered` has no word against.
        weights: one a folder; donors of weight 0 are not read.
        progress: where to show a bar.

    Raises:
        InputError: unreadable, or weights that are not finite.
    """
    total: dict[str, Factors | Tensor] = {}
    with progress.bar("averaging", len(folders)) as advance:
        for folder, weight in zip(folders, weights, strict=True):
            modules = read_delta(folder).modules if weight else {}
            for name, factors in modules.items():
                total[name] = _plus(total.get(name), factors, weight)
            advance()
    return total


def scaled(point: Point, factor: float) -> Point:
    """Another point on the line from the base through ``point``."""
    return {name: _times(change, factor) for name, change in point.items()}


def _times(change: Factors | Tensor, factor: float) -> Factors | Tensor:
    if isinstance(change, Tensor):
        return change * factor
    return Factors(change.A, change.B, change.scale * factor, change.kind)


def _plus(total: Factors | Tensor | None, factors: Factors, weight: float) -> Factors | Tensor:
    if isinstance(total, Tensor):
        return total.addmm_(factors.B, factors.A, alpha=weight * factors.scale)
    right, left = factors.A, factors.B * (weight * factors.scale)
    if total is not None:
        right, left = torch.cat((total.A, right)), torch.cat((total.B, left), 1)
    if right.numel() + left.numel() > left.shape[0] * right.shape[1]:
        return left @ right
    return Factors(right, left, 1.0, factors.kind)


@contextlib.contextmanager
def moved(model: nn.Module, point: Point) -> Iterator[None]:
    """``model`` computes base plus ``point`` within the block, and gradients flow through it.

    The change is added to a module's output, never rounded into its weight: there small deltas
    drown in bfloat16 (:mod:`mashup.model.apply`). It is cast once to the dtype of the model.

    Raises:
        InputError: the point names a module that the base does not have.
    """
    with contextlib.ExitStack() as hooks:
        for name, change in point.items():
            module = module_of(model, name)
            handle = module.register_forward_hook(_adding(change, module.weight))
            hooks.callback(handle.remove)
        yield


def module_of(model: nn.Module, name: str) -> Any:
    """The adapted module of this name.

    Raises:
        InputError: the base has none.
    """
    module = adapted(model, name)
    if module is None:
        fix = "give the base that this adapter was trained on"
        raise InputError(Problem("no such module in the base", name, fix=fix))
    return module


def _adding(change: Factors | Tensor, like: Tensor) -> Any:
    if isinstance(change, Tensor):
        matrices = [change.to(like)]
    else:
        matrices = [change.A.to(like), (change.B * change.scale).to(like)]

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        added = times(inputs[0], matrices[0])
        for matrix in matrices[1:]:
            added = F.linear(added, matrix)
        scale = embed_scale(module)
        return output + (added if scale is None else added * scale).to(output.dtype)

    return hook


def times(inputs: Tensor, matrix: Tensor) -> Tensor:
    """``x·Mᵀ`` for ``M (rows, d_in)``; token ids stand for rows of the identity."""
    if not inputs.is_floating_point():
        return F.embedding(inputs, matrix.T)
    return F.linear(inputs.to(matrix.dtype), matrix)
