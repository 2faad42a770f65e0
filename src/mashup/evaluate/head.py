"""Run the language-model head only at the positions whose next token is an answer.

A causal model computes ``logits = head(hidden)`` for all positions and then whatever its
architecture adds (soft-capping in Gemma-2, scaling in Cohere and Granite). Cutting the
rows at the door of the head keeps all that and costs only what is needed: logits come
back as ``(1, positions, vocabulary)``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


@contextlib.contextmanager
def head_only_at(model: nn.Module, positions: Tensor) -> Iterator[None]:
    """Within the block, forward passes of ``model`` return logits at ``positions`` alone.

    Args:
        model: a causal language model of transformers, also inside a PEFT or other wrapper.
        positions: boolean ``(batch, length)``; row-major order of the returned positions.
    """

    def cut(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden, *rest = arguments
        return (hidden[positions.to(hidden.device)].unsqueeze(0), *rest)

    handle = _output_head(model).register_forward_pre_hook(cut)
    try:
        yield
    finally:
        handle.remove()


def _output_head(model: nn.Module) -> nn.Module:
    for module in (model, *model.modules()):
        getter = getattr(module, "get_output_embeddings", None)
        head = getter() if getter else None
        if head is not None:
            return head
    raise TypeError(f"{type(model).__name__} has no language-model head")
