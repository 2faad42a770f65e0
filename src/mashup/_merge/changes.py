"""What one parent changes in one tensor of the base, read some rows at a time.

A parent's tensor is ``W_i = V + s·B·A``. ``V`` is a new value (a tensor of a full checkpoint, a
saved module) or the base's ``W0``; the product is a LoRA. Rows are those of the first dimension,
so rows of a LoRA cost ``rows × r × d`` and the whole product is never made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from mashup.checkpoint import LoraModule, Stored
from mashup.checkpoint.fit import shape_of
from mashup.delta import Factors
from mashup.weights import TORCH, read_finite, read_rows

#: Numbers that are worked on at once: half a million float32 fit a core's cache. Random
#: methods draw chunk by chunk, so another value would give other (equally good) results.
CHUNK = 1 << 19


def spans(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Ranges of rows of about :data:`CHUNK` numbers that cover a tensor, in order."""
    rows = shape[0] if shape else 1
    step = max(1, CHUNK // max(1, math.prod(shape[1:])))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def upcast(tensor: Tensor) -> Tensor:
    """A copy in float32, or in float64 if it was."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32), copy=True)


class Value(Protocol):
    """A tensor that can be read some rows at a time."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def rows(self, start: int, stop: int, buffer: Tensor | None = None) -> Tensor:
        """``(stop - start, *shape[1:])`` in the stored dtype, possibly a view of ``buffer``."""
        ...


@dataclass(frozen=True)
class OnDisk:
    """A stored tensor as it is."""

    stored: Stored

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape

    @property
    def dtype(self) -> torch.dtype:
        return TORCH[self.stored.dtype]

    def rows(self, start: int, stop: int, buffer: Tensor | None = None) -> Tensor:
        return read_rows(self.stored, start, stop, buffer)

    def flat(self) -> OnDisk:
        """The same numbers as a tensor of one dimension."""
        info = replace(self.stored.info, shape=(self.stored.info.count,))
        return OnDisk(replace(self.stored, info=info))


@dataclass(frozen=True)
class InMemory:
    """A tensor that is small, or made here."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype

    def rows(self, start: int, stop: int, buffer: Tensor | None = None) -> Tensor:
        del buffer
        return self.tensor[start:stop]


@dataclass(frozen=True)
class Patched:
    """``value`` with some rows replaced: row ``ids[j]`` by row ``j`` of ``new``."""

    value: Value
    ids: tuple[int, ...]
    new: Stored

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> torch.dtype:
        return torch.promote_types(self.value.dtype, TORCH[self.new.dtype])

    def rows(self, start: int, stop: int, buffer: Tensor | None = None) -> Tensor:
        rows = self.value.rows(start, stop, buffer).to(self.dtype, copy=True)
        for place, row in enumerate(self.ids):
            if start <= row < stop:
                rows[row - start] = read_rows(self.new, place, place + 1)[0].to(self.dtype)
        return rows


@dataclass(frozen=True)
class Shifted:
    """``value + scale · b``, float32 or higher."""

    value: Value
    scale: float
    b: Stored

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> torch.dtype:
        return torch.promote_types(self.value.dtype, torch.float32)

    def rows(self, start: int, stop: int, buffer: Tensor | None = None) -> Tensor:
        rows = self.value.rows(start, stop, buffer).to(self.dtype, copy=True)
        return rows.add_(read_rows(self.b, start, stop), alpha=self.scale)


@dataclass(frozen=True)
class Change:
    """One parent's change of one base tensor, unread.

    Attributes:
        value: its new value, or None for the base's.
        lora: a LoRA on top.
        rows: token ids and their new rows ``(ids, dim)``, which replace those of the value.
        shift: ``(s, b)``: ``s·b`` is added to a bias.
    """

    value: Value | None = None
    lora: LoraModule | None = None
    rows: tuple[tuple[int, ...], Stored] | None = None
    shift: tuple[float, Stored] | None = None

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of its value and of its LoRA, each as the base's tensor must have it."""
        value = [tuple(self.value.shape)] if self.value is not None else []
        return value + ([shape_of(self.lora)] if self.lora is not None else [])

    def on(self, base: Value) -> Change:
        """The same change, with rows and shift applied to the base as one new value."""
        value = self.value
        if self.rows is not None:
            value = Patched(value or base, *self.rows)
        if self.shift is not None:
            value = Shifted(value or base, *self.shift)
        return Change(value, self.lora)


@dataclass(frozen=True)
class Loaded:
    """A change whose LoRA is in memory; its value is still read by rows.

    Attributes:
        value: the new value, None for the base's own.
        factors: of the LoRA on top, None without one.
        transposed: whether the base stores the tensor as ``(d_in, d_out)``.
    """

    value: Value | None
    factors: Factors | None = None
    transposed: bool = False

    @classmethod
    def of(cls, change: Change) -> Loaded:
        """Read the factors, in float32 or higher.

        Raises:
            InputError: factors that are not finite, or cannot be read.
        """
        module = change.lora
        if module is None:
            return cls(change.value)
        A, B = (read_finite(half) for half in (module.A, module.B))
        A, B = (half.to(torch.promote_types(half.dtype, torch.float32)) for half in (A, B))
        factors = Factors(A, B, module.scale, module.kind, module.experts)
        return cls(change.value, factors, module.layout.endswith("transposed"))

    def delta(self, base: Value | None, start: int, stop: int) -> Tensor:
        """Rows of ``W_i - W0``, float32 or higher; a new value needs ``base``."""
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
