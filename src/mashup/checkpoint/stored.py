"""Where a tensor lies on disk: known from headers, read only when its numbers are needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mashup.errors import Problem
from mashup.headers import WIDTHS, TensorInfo, read_header

_PIECE = 1 << 20  # bytes that are compared at once


@dataclass(frozen=True)
class Stored:
    """One tensor in a safetensors file.

    Attributes:
        name: as the file has it.
        path: the file.
        info: dtype, shape and place in the file.
    """

    name: str
    path: Path
    info: TensorInfo

    @property
    def shape(self) -> tuple[int, ...]:
        return self.info.shape

    @property
    def dtype(self) -> str:
        """safetensors' name: ``BF16``, ``F32``, ..."""
        return self.info.dtype

    @property
    def rows(self) -> int:
        """Length of the first dimension; 1 for a scalar."""
        return self.shape[0] if self.shape else 1

    @property
    def row_bytes(self) -> int:
        return self.info.bytes // self.rows

    @property
    def row_size(self) -> int:
        """How many numbers a row holds."""
        return self.row_bytes // WIDTHS[self.dtype]


def read_stored(path: Path) -> dict[str, Stored]:
    """Every tensor of one safetensors file.

    Raises:
        InputError: as :func:`mashup.headers.read_header`.
    """
    return {name: Stored(name, path, info) for name, info in read_header(path).items()}


def not_floats(stored: Stored) -> Problem | None:
    """The problem of a tensor whose numbers are codes or integers, not weights."""
    if stored.info.is_float:
        return None
    found, expected = f"{stored.name} is {stored.dtype}", "16-, 32- or 64-bit floats"
    fix = "use the 16-bit weights, or load and save them dequantised (model.dequantize())"
    return Problem("quantised weights", str(stored.path), found, expected, fix)


def total_bytes(tensors: Mapping[str, Stored]) -> int:
    return sum(stored.info.bytes for stored in tensors.values())


def same_bytes(one: Stored, other: Stored) -> bool:
    """Whether two stored tensors are the same to the bit; reads them until they differ."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    with one.path.open("rb") as first, other.path.open("rb") as second:
        first.seek(one.info.begin)
        second.seek(other.info.begin)
        sizes = (min(_PIECE, one.info.bytes - done) for done in range(0, one.info.bytes, _PIECE))
        return all(first.read(size) == second.read(size) for size in sizes)
