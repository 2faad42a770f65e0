"""Weighted sums of stored tensors, at the speed of memory: the inner loop of full merges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mashup.merge.changes import Opened, spans
from mashup.merge.values import Value

#: What is left to one and this close to zero is the rounding error of weights that sum to one.
NOTHING = 1e-9


@dataclass(frozen=True)
class Term:
    """``coefficient × (value + the LoRA of change)``, either of which may be absent."""

    coefficient: float
    value: Value | None
    change: Opened | None = None


def weighted_rows(
    terms: Sequence[Term], shape: tuple[int, ...]
) -> Iterator[tuple[int, int, Tensor]]:
    """``(start, stop, rows)`` of the sum, float32 or higher, until the next is asked for.

    All memory is allocated once: allocating anew for each piece costs more than the sum.
    """
    used = [term for term in terms if term.coefficient != 0]
    dtype = torch.float32
    for term in used:
        dtype = torch.promote_types(dtype, term.value.dtype) if term.value else dtype
    pieces = list(spans(shape))
    row = [*pieces[0][:0], pieces[0][1] - pieces[0][0], *shape[1:]]
    total, other = torch.empty(row, dtype=dtype), torch.empty(row, dtype=dtype)
    buffer = torch.empty(total.numel() * dtype.itemsize, dtype=torch.uint8)
    for start, stop in pieces:
        rows, scratch = total[: stop - start], other[: stop - start]
        _add_up(used, start, stop, rows, scratch, buffer)
        yield start, stop, rows


def _add_up(
    terms: Sequence[Term], start: int, stop: int, rows: Tensor, scratch: Tensor, buffer: Tensor
) -> None:
    """``rows = Σ c·(V + s·B·A)``; values of smaller types are converted in ``scratch``."""
    fresh = True
    for term in terms:
        if term.value is None:
            continue
        stored = term.value.rows(start, stop, buffer)
        if fresh:
            rows.copy_(stored)
            rows.mul_(term.coefficient)
            fresh = False
        else:
            rows.add_(scratch.copy_(stored), alpha=term.coefficient)
    if fresh:
        rows.zero_()
    for term in terms:
        made = term.change.addition(start, stop) if term.change else None
        if made is not None:
            rows.add_(made, alpha=term.coefficient)
