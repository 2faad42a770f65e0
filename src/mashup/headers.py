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
        text, data = _read(path)
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        return _check(path, data, entries)
    except InputError:
        raise
    except OSError as error:
        fix = "check the path and the permissions"
        raise InputError(Problem("cannot read file", str(path), str(error), fix=fix)) from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise _damaged(path, "a header that cannot be read", "safetensors") from error


def _read(path: Path) -> tuple[bytes, int]:
    """The header's JSON and how many bytes of data come after it."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(24)
        if start.startswith(_LFS):
            raise _pointer(path)
        length = int.from_bytes(start[:8], "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise _truncated(path, f"{size:,} bytes", f"a header of {length:,} bytes and data")
        stream.seek(8)
        return stream.read(length), size - 8 - length


def _check(path: Path, data: int, entries: dict[str, dict]) -> dict[str, TensorInfo]:
    end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    if end != data:
        error = _truncated if end > data else _damaged
        raise error(path, f"{data:,} bytes of weights", f"{end:,} bytes")
    return {name: _info(path, name, entry) for name, entry in entries.items()}


def _info(path: Path, name: str, entry: dict) -> TensorInfo:
    info = TensorInfo(entry["dtype"], tuple(entry["shape"]))
    begin, end = entry["data_offsets"]
    count = math.prod(info.shape)
    if count == 0:
        raise _empty(path, name, info)
    width = _BYTES.get(info.dtype)
    if width and end - begin != count * width:
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
