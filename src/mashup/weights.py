"""Read stored tensors into torch, in full or some rows at a time, in bounded memory."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from mashup.checkpoint import Stored
from mashup.errors import InputError, Problem

_PIECE = 1 << 22  # numbers that are read at once
#: Data types of safetensors to those of torch (https://github.com/huggingface/safetensors).
TORCH = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
}
#: Data types of torch to those of safetensors.
SAFETENSORS = {torch_type: name for name, torch_type in TORCH.items()}


def read(stored: Stored) -> Tensor:
    """The full tensor, in its stored dtype."""
    return read_rows(stored, 0, stored.rows).reshape(stored.shape)


def read_finite(stored: Stored) -> Tensor:
    """The full tensor, if all its numbers are finite.

    Raises:
        InputError: it contains NaN or infinity, or the file cannot be read.
    """
    tensor = read(stored)
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(not_finite(stored))
    return tensor


def is_finite(stored: Stored) -> bool:
    """Whether a tensor holds neither NaN nor infinity; read in pieces. Integers are finite."""
    if not stored.info.is_float:
        return True
    step = max(1, _PIECE // max(1, stored.row_size))
    starts = range(0, stored.rows, step)
    pieces = (read_rows(stored, start, min(start + step, stored.rows)) for start in starts)
    return all(bool(torch.isfinite(rows).all()) for rows in pieces)


def not_finite(stored: Stored) -> Problem:
    """The problem of a tensor with NaN or infinity."""
    found = f"NaN or infinity in {stored.name}"
    fix = "this run diverged; use an earlier checkpoint of it"
    where = str(stored.path)
    return Problem("weights are not finite", where, found, "finite numbers", fix)


def read_rows(stored: Stored, start: int, stop: int, buffer: Tensor | None = None) -> Tensor:
    """Rows ``start`` to ``stop`` of the first dimension, ``(stop - start, *shape[1:])``.

    This reads the file with a system call and does not map it. Mapped pages would count as memory
    of this process until the system reclaims them.

    Args:
        stored: the tensor.
        start: first row.
        stop: row after the last.
        buffer: bytes to read into, large enough. The rows are a view of it. Reused memory is
            several times faster than new memory.

    Raises:
        InputError: the file is too short, or cannot be read.
    """
    size = (stop - start) * stored.row_bytes
    place = torch.empty(size, dtype=torch.uint8) if buffer is None else buffer[:size]
    _fill(stored, place.numpy().data, start * stored.row_bytes)
    return place.view(TORCH[stored.dtype]).view(stop - start, *stored.shape[1:])


def _fill(stored: Stored, buffer: memoryview, offset: int) -> None:
    """Read the bytes of a tensor from ``offset`` on, through its pieces if it has some."""
    for piece in stored.pieces or (stored,):
        count = max(0, min(len(buffer), piece.info.bytes - offset))
        if count:
            _fill_piece(piece, buffer[:count], piece.info.begin + offset)
            buffer, offset = buffer[count:], 0
        else:
            offset -= piece.info.bytes


def _fill_piece(stored: Stored, buffer: memoryview, offset: int) -> None:
    try:
        descriptor = os.open(stored.path, os.O_RDONLY)
        try:
            _read_into(descriptor, buffer, offset)
        finally:
            os.close(descriptor)
    except (OSError, EOFError) as error:
        fix = "copy or download the file again"
        found = f"{stored.name}: {error}"
        raise InputError(Problem("cannot read weights", str(stored.path), found, fix=fix)) from None


def _read_into(descriptor: int, buffer: memoryview, offset: int) -> None:
    done = 0
    while done < len(buffer):  # one call reads 2 GiB at most
        count = os.preadv(descriptor, [buffer[done:]], offset + done)
        if count == 0:
            raise EOFError("the file ends early")
        done += count
