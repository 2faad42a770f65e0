"""Inputs and output gradients of adapted modules: one forward and backward pass of the sample."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from mashup._score.gradient.point import BASE, Point, module_of, moved
from mashup.evaluate.batches import Batch
from mashup.evaluate.prefix import answer_logits
from mashup.model.apply import embed_scale
from mashup.progress import SILENT, Progress

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
