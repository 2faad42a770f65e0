"""What one parent changes in one tensor of the base, some rows at a time.

A parent's tensor is ``W_i = V + s·B·A``: ``V`` is a whole new value (a full checkpoint's
tensor, a saved module) or the base's ``W0``; the product is a LoRA. Rows are those of the
first dimension, so a LoRA's rows cost ``rows × r × d`` and nothing whole is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mashup._merge.values import Patched, Shifted, Value
from mashup.checkpoint import LoraModule, Stored
from mashup.checkpoint.placement import shape_of
from mashup.delta import Factors
from mashup.weights import read_finite

#: Numbers that are worked on at once: half a million float32 fit a core's cache. Random
#: methods draw chunk by chunk, so another value would give other (equally good) results.
CHUNK = 1 << 19


@dataclass(frozen=True)
class Lora:
    """A LoRA's change of one tensor, read when it is needed.

    Attributes:
        module: where A and B lie, their scale and layout.
    """

    module: LoraModule

    @property
    def shape(self) -> tuple[int, ...]:
        return shape_of(self.module)

    def factors(self) -> Factors:
        """``A`` and ``B`` in float32 or higher, checked to be finite."""
        module = self.module
        halves = map(read_finite, (module.A, module.B))
        right, left = (half.to(torch.promote_types(half.dtype, torch.float32)) for half in halves)
        return Factors(right, left, module.scale, module.kind, module.experts)


@dataclass(frozen=True)
class Change:
    """One parent's change of one base tensor.

    Attributes:
        value: its new value, or None for the base's.
        lora: a LoRA on top.
        rows: token ids and their new rows ``(ids, dim)``, put into the value.
        shift: ``(s, b)``: ``s·b`` is added to a bias.
    """

    value: Value | None = None
    lora: Lora | None = None
    rows: tuple[tuple[int, ...], Stored] | None = None
    shift: tuple[float, Stored] | None = None

    def beside(self, base: Value) -> Change:
        """The same with rows and shifts as a whole new value, made from the base's."""
        value = self.value
        if self.rows is not None:
            value = Patched(value or base, *self.rows)
        if self.shift is not None:
            value = Shifted(value or base, *self.shift)
        return Change(value, self.lora)


@dataclass(frozen=True)
class Opened:
    """A change whose LoRA is in memory and whose value is read as it is needed.

    Attributes:
        value: the new value, None for the base's own.
        factors: of the LoRA on top, None without one.
        transposed: whether the tensor is ``(d_in, d_out)``.
    """

    value: Value | None
    factors: Factors | None = None
    transposed: bool = False

    @classmethod
    def of(cls, change: Change) -> Opened:
        lora = change.lora
        if lora is None:
            return cls(change.value)
        return cls(change.value, lora.factors(), lora.module.layout.endswith("transposed"))

    def delta(self, base: Value | None, start: int, stop: int) -> Tensor:
        """Rows of ``W_i - W0``, float32 or higher; ``base`` is needed for a new value."""
        made = self.addition(start, stop)
        if self.value is None:
            assert made is not None  # a change changes something
            return made
        assert base is not None
        rows = upcast(self.value.rows(start, stop)).sub_(base.rows(start, stop))
        return rows if made is None else rows.add_(made)

    def addition(self, start: int, stop: int) -> Tensor | None:
        """Rows of ``s·B·A``, None without a LoRA."""
        f = self.factors
        if f is None:
            return None
        if f.experts > 1:
            right, left = f.stacked()
            made = f.scale * (left[start:stop] @ right[start:stop])
            return made.transpose(1, 2) if self.transposed else made
        if self.transposed:
            return f.scale * (f.A[:, start:stop].T @ f.B.T)
        return f.scale * (f.B[start:stop] @ f.A)


def upcast(tensor: Tensor) -> Tensor:
    """A copy in float32, or in float64 if it was."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32), copy=True)


def spans(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Ranges of rows of about :data:`CHUNK` numbers that cover a tensor, in order."""
    rows = shape[0] if shape else 1
    step = max(1, CHUNK // max(1, math.prod(shape[1:])))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)
