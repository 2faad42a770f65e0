"""Tensors that can be read some rows at a time: as stored, with other rows, or shifted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from mashup.checkpoint import Stored
from mashup.weights import TORCH, read_rows


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

    def flat(self) -> OnDisk:
        """The same numbers as a tensor of one dimension."""
        info = replace(self.stored.info, shape=(self.stored.info.count,))
        return OnDisk(replace(self.stored, info=info))


@dataclass(frozen=True)
class Patched:
    """``value`` with some rows replaced."""

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
