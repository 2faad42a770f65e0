"""The header of a safetensors file, read without torch and without touching the weights.

Format: https://github.com/huggingface/safetensors#format. Eight bytes give the
little-endian length N of the header, N bytes of JSON give name, dtype, shape
and byte range of every tensor, and the rest of the file is the data.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from mashup.errors import InputError, Problem

_MAX_HEADER = 100_000_000  # bytes; the limit of the reference implementation
_LFS = b"version https://git-lfs"
_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"), 1),
}


@dataclass(frozen=True)
class TensorInfo:
    """Shape and dtype (safetensors' names: ``F32``, ``BF16``, ...) of one stored tensor."""

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Name to shape and dtype of every tensor in a safetensors file.

    Raises:
        InputError: not safetensors, truncated, a git-lfs pointer, or a tensor of size zero.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(8)
            if (start + stream.read(16)).startswith(_LFS):
                raise _pointer(path)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > min(size - 8, _MAX_HEADER):
                raise _truncated(path, f"{size:,} bytes", f"a header of {length:,} bytes and data")
            stream.seek(8)
            entries = json.loads(stream.read(length))
    except OSError as error:
        raise InputError(Problem("cannot read file", str(path), str(error))) from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise _truncated(path, "a header that is not JSON", "safetensors") from error
    return _check(path, size - 8 - length, entries)


def _check(path: Path, data: int, entries: dict[str, dict]) -> dict[str, TensorInfo]:
    entries.pop("__metadata__", None)
    end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    if end > data:
        raise _truncated(path, f"{data:,} bytes of weights", f"{end:,} bytes")
    tensors = {}
    for name, entry in entries.items():
        info = TensorInfo(entry["dtype"], tuple(entry["shape"]))
        begin, stop = entry["data_offsets"]
        if math.prod(info.shape) == 0:
            raise _empty(path, name, info)
        width = _BYTES.get(info.dtype)
        if width and stop - begin != math.prod(info.shape) * width:
            raise _truncated(path, f"{name}: {stop - begin:,} bytes", f"a {info.shape} tensor")
        tensors[name] = info
    return tensors


def _truncated(path: Path, found: str, expected: str) -> InputError:
    fix = "copy or download the file again"
    return InputError(Problem("truncated safetensors", str(path), found, expected, fix))


def _pointer(path: Path) -> InputError:
    found = "the text of a git-lfs pointer instead of weights"
    fix = f"run 'git lfs pull' in {path.parent}"
    return InputError(Problem("git-lfs pointer", str(path), found, "a safetensors file", fix))


def _empty(path: Path, name: str, info: TensorInfo) -> InputError:
    found = f"{name} has shape {list(info.shape)}"
    fix = "save it again from the whole model (DeepSpeed ZeRO-3 shards leave such tensors)"
    return InputError(Problem("tensor of size zero", str(path), found, "weights", fix))
