"""Weighted sums of stored tensors, at the speed of memory: the inner loop of full merges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mashup._merge.changes import Opened, spans
from mashup._merge.values import Value

#: What is left to one and this close to zero is the rounding error of weights that sum to one.
NOTHING = 1e-9


@dataclass(frozen=True)
class Term:
    """``coefficient × (value + the LoRA of change)``, either of which may be absent."""

    coefficient: float
    value: Value | None
    change: Opened | None = None


class Piece(NamedTuple):
    """Rows ``start`` to ``stop`` of a merged tensor, valid until the next piece is asked for.

    Attributes:
        rows: the merged values, float32 or higher.
        base: the base's values; None where the merge is not compared with the base.
        delta: what the merge changes in them, before it is rounded into ``rows``; likewise.
    """

    start: int
    stop: int
    rows: Tensor
    base: Tensor | None = None
    delta: Tensor | None = None


def weighted_rows(
    terms: Sequence[Term], shape: tuple[int, ...], base: Value | None = None
) -> Iterator[Piece]:
    """The pieces of the sum, with the base's values and the delta where ``base`` is given.

    All memory is allocated once: allocating anew for each piece costs more than the sum.
    """
    used = [term for term in terms if term.coefficient != 0]
    dtype = torch.float32
    for term in used:
        dtype = torch.promote_types(dtype, term.value.dtype) if term.value else dtype
    pieces = list(spans(shape))
    row = [pieces[0][1] - pieces[0][0], *shape[1:]]
    whole = [torch.empty(row, dtype=dtype) for _ in range(2 if base is None else 4)]
    buffer = torch.empty(whole[0].numel() * dtype.itemsize, dtype=torch.uint8)
    for start, stop in pieces:
        rows, scratch, *compared = (one[: stop - start] for one in whole)
        if base is not None:
            compared[0].copy_(base.rows(start, stop, buffer))
        piece = Piece(start, stop, rows, *compared)
        _add_up(used, piece, base, scratch, buffer)
        yield piece


def _add_up(
    terms: Sequence[Term], piece: Piece, base: Value | None, scratch: Tensor, buffer: Tensor
) -> None:
    """``rows = Σ c·(V + s·B·A)``; values of smaller types are converted in ``scratch``."""
    start, stop, rows, origin, delta = piece
    fresh = True
    if delta is not None:
        delta.zero_()
    for term in terms:
        if term.value is None:
            continue
        known = origin if term.value is base else None
        stored = term.value.rows(start, stop, buffer) if known is None else known
        if fresh:
            rows.copy_(stored).mul_(term.coefficient)
            fresh = False
        else:
            rows.add_(scratch.copy_(stored), alpha=term.coefficient)
        if delta is not None and origin is not None and known is None:
            delta.add_(scratch.copy_(stored).sub_(origin), alpha=term.coefficient)
    if fresh:
        rows.zero_()
    for term in terms:
        made = term.change.addition(start, stop) if term.change else None
        if made is not None:
            rows.add_(made, alpha=term.coefficient)
            if delta is not None:
                delta.add_(made, alpha=term.coefficient)
