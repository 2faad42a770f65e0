"""What one parent changes in one tensor of the base, some rows at a time.

A parent's tensor is ``W_i = V + s·B·A``: ``V`` is a whole new value (a full checkpoint's
tensor, a saved module) or the base's ``W0``; the product is a LoRA. Rows are those of the
first dimension, so a LoRA's rows cost ``rows × r × d`` and nothing whole is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mashup.checkpoint import LoraModule, Stored
from mashup.checkpoint.coverage import shape_of
from mashup.delta import Factors
from mashup.errors import InputError, Problem
from mashup.weights import TORCH, read, read_rows

#: Numbers that are worked on at once: half a million float32 fit a core's cache. Random
#: methods draw chunk by chunk, so another value would give other (equally good) results.
CHUNK = 1 << 19


class Value(Protocol):
    """A tensor that can be read some rows at a time."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def rows(self, start: int, stop: int, buffer: Tensor | None = None) -> Tensor:
        """``(stop - start, *shape[1:])`` in the stored dtype, maybe a view of ``buffer``."""
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
        halves = [_finite(stored) for stored in (self.module.A, self.module.B)]
        return Factors(halves[0], halves[1], self.module.scale)


def _finite(stored: Stored) -> Tensor:
    tensor = read(stored)
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(not_finite(str(stored.path), stored.name))
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def not_finite(where: str, name: str) -> Problem:
    fix = "this run diverged; use an earlier checkpoint of it"
    found = f"NaN or infinity in {name}"
    return Problem("weights are not finite", where, found, "finite numbers", fix)


@dataclass(frozen=True)
class Change:
    """One parent's change of one base tensor: a new value, a LoRA on top, or both."""

    value: Value | None = None
    lora: Lora | None = None


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
        return cls(change.value, lora.factors(), lora.module.layout == "transposed")

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
