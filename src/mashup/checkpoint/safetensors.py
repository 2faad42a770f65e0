"""A safetensors file by its header: where each tensor is, without torch and without its numbers.

Format: https://github.com/huggingface/safetensors#format. Eight bytes give the
little-endian length N of the header, N bytes of JSON give name, dtype, shape
and byte range of every tensor, and the rest of the file is the data: no hole, no overlap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mashup.errors import InputError, Problem
from mashup.strict import DoubledError, check_plain, parse_json

_MAX_HEADER = 100_000_000  # bytes; the limit of the reference implementation
_MAX_BYTES = 1 << 62
_LFS = b"version https://git-lfs"
_METADATA = "__metadata__"

#: Bytes of one number of each dtype that the format names.
WIDTHS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 1),
}
#: Types of weights that a delta can be taken of.
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class TensorInfo:
    """One stored tensor: dtype (safetensors' names: ``F32``, ``BF16``, ...), shape, place.

    ``begin`` is the offset of its first byte in the file.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int = field(default=0, compare=False)

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.count * WIDTHS[self.dtype]

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Name to shape, dtype and place of every tensor in a safetensors file.

    Raises:
        InputError: not safetensors, truncated, a git-lfs pointer, or a tensor of size zero.
    """
    try:
        text, data = _read(path)
        entries = parse_json(text.decode())
        _check_metadata(path, entries.pop(_METADATA, None))
        return _check(path, data, 8 + len(text), entries)
    except InputError:
        raise
    except OSError as error:
        fix = "check the path and the permissions"
        raise InputError(Problem("cannot read file", str(path), str(error), fix=fix)) from error
    except DoubledError as error:
        raise _damaged(path, str(error), "every name once") from error
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise _damaged(path, "a header that cannot be read", "safetensors") from error


def _check_metadata(path: Path, metadata: Any) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _damaged(path, f"{_METADATA} {str(metadata)[:80]}", "names and texts")


def _read(path: Path) -> tuple[bytes, int]:
    """The header's JSON and how many bytes of data come after it."""
    size = check_plain(path)
    with path.open("rb") as stream:
        start = stream.read(24)
        if start.startswith(_LFS):
            raise _pointer(path)
        length = int.from_bytes(start[:8], "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise _truncated(path, f"{size:,} bytes", f"a header of {length:,} bytes and data")
        stream.seek(8)
        return stream.read(length), size - 8 - length


def _check(path: Path, data: int, start: int, entries: dict[str, dict]) -> dict[str, TensorInfo]:
    """Every tensor as its entry says, if together they fill the data exactly."""
    infos = {name: _info(path, name, entry, start) for name, entry in entries.items()}
    end = start
    for name, info in sorted(infos.items(), key=lambda pair: pair[1].begin):
        if info.begin != end:
            found = f"{name} begins at byte {info.begin - start:,}"
            raise _damaged(path, found, f"{end - start:,}, where the tensor before it ends")
        end += info.bytes
    if end != start + data:
        error = _truncated if end > start + data else _damaged
        raise error(path, f"{data:,} bytes of weights", f"{end - start:,} bytes")
    return infos


def _info(path: Path, name: str, entry: dict, start: int) -> TensorInfo:
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    numbers = (*shape, begin, end)
    if not all(type(n) is int and 0 <= n < _MAX_BYTES for n in numbers):
        found = f"{name}: shape {str(shape)[:80]}, bytes {str(begin)[:20]} to {str(end)[:20]}"
        raise _damaged(path, found, "whole numbers of at least 0")
    if dtype not in WIDTHS:
        raise _damaged(path, f"{name}: type {str(dtype)[:40]}", f"one of {', '.join(WIDTHS)}")
    info = TensorInfo(dtype, tuple(shape), start + begin)
    if info.count == 0:
        raise _empty(path, name, info)
    if end - begin != info.bytes:
        raise _damaged(path, f"{name}: {end - begin:,} bytes", f"a {info.shape} tensor")
    return info


def _truncated(path: Path, found: str, expected: str) -> InputError:
    fix = "copy or download the file again"
    return InputError(Problem("truncated safetensors", str(path), found, expected, fix))


def _damaged(path: Path, found: str, expected: str) -> InputError:
    fix = "copy or download the file again"
    return InputError(Problem("damaged safetensors", str(path), found, expected, fix))


def _pointer(path: Path) -> InputError:
    found = "the text of a git-lfs pointer instead of weights"
    fix = f"run 'git lfs pull' in {path.parent}"
    return InputError(Problem("git-lfs pointer", str(path), found, "a safetensors file", fix))


def _empty(path: Path, name: str, info: TensorInfo) -> InputError:
    found = f"{name} has shape {list(info.shape)}"
    fix = "save it again from the whole model (DeepSpeed ZeRO-3 shards leave such tensors)"
    return InputError(Problem("tensor of size zero", str(path), found, "weights", fix))


_PIECE = 1 << 20  # bytes that are compared at once


@dataclass(frozen=True)
class Stored:
    """One tensor in a safetensors file, or in several tensors of files.

    Attributes:
        name: as the file has it.
        path: the file.
        info: dtype, shape and place in the file.
        pieces: stored tensors whose bytes, one after the other, are those of this one; empty for
            a tensor that is stored as it is. ``path`` is then that of the first, and ``info`` has
            no place.
    """

    name: str
    path: Path
    info: TensorInfo
    pieces: tuple[Stored, ...] = ()

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
        InputError: as :func:`mashup.checkpoint.safetensors.read_header`.
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
