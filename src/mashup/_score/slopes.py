"""Slopes of every example's loss along a few source checkpoints, from one backward pass.

The model stands at a *point*: the base plus a weighted sum of checkpoints. With the checkpoints
stacked into ``A (Σr, d_in)`` and ``B (d_out, Σr)``, the slopes of a token are ``(X·Aᵀ) ⊙ (D·B)``,
summed over modules, over each checkpoint's ranks and over an example's tokens. ``X`` are a module's
inputs, and ``D`` the gradient of the loss in its output.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from mashup.delta import Delta, Factors, read_delta
from mashup.errors import InputError, Problem
from mashup.evaluate.batches import Batch
from mashup.evaluate.prefix import answer_logits
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
        folders: LoRA folders for which :func:`mashup._score.newton.uncovered` is None.
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


#: Called with a batch, a module's name, its inputs ``X (..., d_in)`` (token ids of an embedding)
#: and the gradient ``D (..., d_out)`` of the summed loss in its output, float32.
Consume = Callable[[Batch, str, Tensor, Tensor], None]


@dataclass(frozen=True)
class Losses:
    """Of each example at the point: summed nats ``(n,)`` and answer tokens ``(n,)``."""

    sums: NDArray[np.float64]
    tokens: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Nats per answer token."""
        return float(self.sums.sum() / self.tokens.sum())


def backpropagate(
    model: Any,
    batches: Sequence[Batch],
    names: Collection[str],
    consume: Consume,
    *,
    point: Point = BASE,
    progress: Progress = SILENT,
) -> Losses:
    """Hand what a batch leaves in the modules ``names`` to ``consume``, batch by batch.

    The parameters get no gradients. Memory is that of the activations of one batch, and of the
    inputs of the adapted modules.

    Raises:
        InputError: a module that the base does not have.
    """
    count = sum(len(batch.rows) for batch in batches)
    sums, tokens = np.zeros(count), np.zeros(count, np.int64)
    with (
        frozen(model),
        moved(model, point),
        torch.enable_grad(),
        progress.bar("linearising", len(batches)) as advance,
    ):
        for batch in batches:
            rows = batch.rows.numpy()
            sums[rows] = _backward(model, batch, names, consume)
            tokens[rows] = batch.answer.sum(1).numpy()
            advance()
    return Losses(sums, tokens)


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients of parameters, and all as it was afterwards."""
    training = model.training
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.eval()
        for parameter in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
        model.train(training)


def _backward(
    model: Any, batch: Batch, names: Collection[str], consume: Consume
) -> NDArray[np.float64]:
    with contextlib.ExitStack() as hooks:
        for name in names:
            hook = _catching(name, batch, consume)
            hooks.callback(module_of(model, name).register_forward_hook(hook).remove)
        logits = answer_logits(model, batch)
        targets = batch.ids[batch.answer].to(logits.device)
        losses = F.cross_entropy(logits, targets, reduction="none")
        losses.sum().backward()
    rows = batch.answer.nonzero()[:, 0]
    summed = torch.zeros(len(batch.rows), dtype=torch.float64)
    return summed.index_add_(0, rows, losses.detach().double().cpu()).numpy()


def _catching(name: str, batch: Batch, consume: Consume) -> Any:
    """A hook on a module's output that waits for its gradient.

    It fires while the backward pass runs, so gradients need no memory of their own, and for
    every use of a module that is used more than once.
    """

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, scale = inputs[0].detach(), embed_scale(module)
        if not output.requires_grad:
            output.requires_grad_(True)  # nothing before it is differentiated

        def caught(gradient: Tensor) -> None:
            gradient = gradient.detach().float()
            consume(batch, name, x, gradient if scale is None else gradient * scale.float())

        output.register_hook(caught)

    return hook


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
