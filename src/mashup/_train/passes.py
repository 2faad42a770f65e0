"""A training batch in forward passes with little padding, over a prefix that is run once.

Examples of one task begin alike (system turn, instruction) and differ in length. The rows of a
batch are grouped by length, and the prefix of all rows is run once, with its gradient. Losses and
gradients are those of one padded pass, except for rounding. On the families of docs/results a step
computes 0.57 to 0.79 tokens for each token of its rows; padded, it computes 1.14 to 1.26.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from mashup.evaluate.batches import Batch
from mashup.evaluate.prefix import PASS, answer_logits, pays, run_prefix
from mashup.task.tokens import Seen

#: Up to so many tokens a row, products of whole matrices are the faster attention on CPU.
SHORT = 192
_NOISE = ("drop", "jitter")  # in names of a configuration's fields


def summed_loss(model: Any, batch: Batch, prefix: int, seen: Sequence[Seen] = ()) -> Tensor:
    """Cross-entropy in nats, summed over the answer tokens of a batch, with its gradient.

    Args:
        model: a causal language model that draws nothing at random (:func:`is_noisy`).
        batch: padded on the right.
        prefix: tokens that all rows begin with and that ``model`` can run once
            (:func:`mashup.evaluate.prefix.shared_prefix`); 0 for none.
        seen: what each row is to see, where rows have pictures. Each row is then a pass of its own.
    """
    device = next(model.parameters()).device.type
    if seen:
        return _summed_apart(model, batch, seen)
    batch = Batch(batch.rows, batch.ids, batch.mask, batch.answer, prefix)
    if not pays([batch], prefix, device):
        batch = Batch(batch.rows, batch.ids, batch.mask, batch.answer)
    cache = run_prefix(model, batch) if batch.prefix else None
    lengths = batch.mask.sum(1).tolist()
    losses = []
    for rows in groups(lengths, batch.prefix, PASS.get(device, PASS["others"])):
        part = _part(batch, rows, max(lengths[row] for row in rows))
        logits = answer_logits(model, part, cache=cache)
        targets = part.ids[part.answer].to(logits.device)
        losses.append(F.cross_entropy(logits, targets, reduction="sum"))
    return torch.stack(losses).sum()


def _summed_apart(model: Any, batch: Batch, seen: Sequence[Seen]) -> Tensor:
    """:func:`summed_loss` of rows with pictures."""
    losses = []
    for row, (one, length) in enumerate(zip(seen, batch.mask.sum(1).tolist(), strict=True)):
        part = replace(_part(batch, [row], length), seen=one)
        targets = part.ids[part.answer]
        logits = answer_logits(model, part)
        losses.append(F.cross_entropy(logits, targets.to(logits.device), reduction="sum"))
    return torch.stack(losses).sum()


def groups(lengths: Sequence[int], prefix: int, cost: int) -> list[list[int]]:
    """Rows of a batch in groups of similar length: the partition that computes least.

    Args:
        lengths: tokens of each row, the prefix included.
        prefix: tokens of each row that are not computed again.
        cost: what one more pass costs, in tokens.

    Returns:
        Places of rows in ``lengths``; the longest rows first.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    if len(lengths) * max(lengths) - sum(lengths) <= cost:
        return [order]
    least, start = [0], [0]  # of the first rows in that order: tokens, and where the last group is
    for end in range(1, len(order) + 1):
        tokens = [
            least[begin] + (end - begin) * (lengths[order[begin]] - prefix) + cost
            for begin in range(end)
        ]
        least.append(min(tokens))
        start.append(tokens.index(least[-1]))
    found, end = [], len(order)
    while end:
        found.append(order[start[end] : end])
        end = start[end]
    return found[::-1]


def _part(batch: Batch, rows: Sequence[int], longest: int) -> Batch:
    """Some rows of a batch, cut to the longest of them."""
    ids, mask, answer = (t[rows, :longest] for t in (batch.ids, batch.mask, batch.answer))
    return Batch(batch.rows[rows], ids, mask, answer, batch.prefix)


def attention_for(ids: Tensor, dtype: torch.dtype) -> AbstractContextManager[None]:
    """The attention that is fastest with its gradient, for rows of ``ids`` (rows, tokens).

    PyTorch's attention in blocks needs some 0.3 ms a row and head for its gradient in bfloat16 on
    CPU, however short the row is. Below some 200 tokens, the products of whole matrices take 0.4 to
    0.8 of its time, forward and backward together (torch 2.13, one core with AMX).
    """
    if ids.device.type == "cpu" and dtype == torch.bfloat16 and ids.shape[1] <= SHORT:
        return sdpa_kernel(SDPBackend.MATH)
    return contextlib.nullcontext()


def is_noisy(model: Any) -> bool:
    """Whether ``model`` draws something at random in training: dropout, or noise in a router.

    Then passes of other shapes would draw other numbers.
    """
    if any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules()):
        return True
    config = model.config.get_text_config().to_dict()
    return any(
        isinstance(value, float) and value > 0
        for name, value in config.items()
        if any(word in name for word in _NOISE)
    )
