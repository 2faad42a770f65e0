"""Write safetensors files piece by piece: the header first, then rows wherever they belong.

Format: https://github.com/huggingface/safetensors#format. File and index names are those of
transformers, so ``from_pretrained`` reads the folder.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mashup.checkpoint.full import INDEX, WEIGHTS
from mashup.checkpoint.safetensors import WIDTHS, TensorInfo
from mashup.errors import InputError, Problem
from mashup.outputs import to_json, write_text
from mashup.settings import MergeSettings

SHARD_BYTES = int(MergeSettings.model_fields["shard_size"].default * 1e9)
_ALIGN = 8


@dataclass(frozen=True)
class Shard:
    """One file to write: its name, its tensors by place, and the bytes of its header."""

    file: str
    tensors: Mapping[str, TensorInfo]
    header: bytes

    @property
    def bytes(self) -> int:
        return len(self.header) + sum(info.bytes for info in self.tensors.values())


def plan_shards(
    tensors: Mapping[str, TensorInfo], limit: int = SHARD_BYTES, single: str = WEIGHTS
) -> list[Shard]:
    """Files of at most ``limit`` bytes (or one tensor) that hold ``tensors`` in their order."""
    groups: list[dict[str, TensorInfo]] = [{}]
    size = 0
    for name, info in tensors.items():
        if groups[-1] and size + info.bytes > limit:
            groups.append({})
            size = 0
        groups[-1][name] = info
        size += info.bytes
    stem = WEIGHTS.removesuffix(".safetensors")
    many = [f"{stem}-{n:05d}-of-{len(groups):05d}.safetensors" for n in range(1, len(groups) + 1)]
    names = [single] if len(groups) == 1 else many
    return [_shard(name, group) for name, group in zip(names, groups, strict=True)]


def _shard(file: str, tensors: Mapping[str, TensorInfo]) -> Shard:
    """Wider types first, as the format's own writer orders them, so that all are aligned."""
    ordered = sorted(tensors.items(), key=lambda pair: -WIDTHS[pair[1].dtype])
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset, places = 0, {}
    for name, info in ordered:
        span = [offset, offset + info.bytes]
        entries[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": span}
        places[name] = offset
        offset += info.bytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGN)
    header = len(text).to_bytes(8, "little") + text
    placed = {
        name: TensorInfo(info.dtype, info.shape, len(header) + places[name])
        for name, info in tensors.items()
    }
    return Shard(file, placed, header)


def index_of(shards: Sequence[Shard]) -> str:
    """Text of ``model.safetensors.index.json``."""
    total = sum(info.bytes for shard in shards for info in shard.tensors.values())
    placed = {name: shard.file for shard in shards for name in shard.tensors}
    return to_json({"metadata": {"total_size": total}, "weight_map": placed})


class ShardWriter:
    """Open files of a planned checkpoint; any thread may write any rows."""

    def __init__(self, files: Mapping[str, tuple[int, TensorInfo]]) -> None:
        self._files = files

    def write(self, names: str | Sequence[str], start: int, rows: Tensor) -> None:
        """Put ``rows``, already of the stored type, at row ``start`` of a tensor.

        A tensor may be written as rows of another length than its own, single numbers as well.

        Args:
            names: of the tensor, or of those that hold its bytes one after the other.
            start: the first row.
            rows: the numbers.
        """
        data = rows.contiguous().view(-1).view(torch.uint8).numpy().data
        offset = start * (len(data) // (len(rows) if rows.dim() else 1))
        for name in (names,) if isinstance(names, str) else names:
            descriptor, info = self._files[name]
            count, done = max(0, min(len(data), info.bytes - offset)), 0
            while done < count:
                done += os.pwrite(descriptor, data[done:count], info.begin + offset + done)
            data, offset = data[count:], 0 if count else offset - info.bytes


@contextmanager
def open_shards(folder: Path, shards: Sequence[Shard]) -> Iterator[ShardWriter]:
    """Create the files of ``shards`` in ``folder``, and the index if there are several."""
    with ExitStack() as stack:
        files: dict[str, tuple[int, TensorInfo]] = {}
        for shard in shards:
            stream = stack.enter_context(open(folder / shard.file, "wb", buffering=0))
            stream.write(shard.header)
            stream.truncate(shard.bytes)
            files |= {name: (stream.fileno(), info) for name, info in shard.tensors.items()}
        if len(shards) > 1:
            write_text(folder / INDEX, index_of(shards))
        yield ShardWriter(files)


def cast(rows: Tensor, dtype: torch.dtype, where: str, place: Tensor | None = None) -> Tensor:
    """``rows`` in ``dtype``, checked to be finite; a view of ``place`` if that is given.

    No number is larger than the norm of all of them, so one product shows that all are fine while
    the norm is small. Otherwise they are checked one by one.

    Raises:
        InputError: NaN or infinity, or a number that ``dtype`` cannot hold.
    """
    made = rows.to(dtype) if place is None else place[: len(rows)].copy_(rows)
    flat, limit = rows.reshape(-1), torch.finfo(dtype).max
    norm = math.sqrt(torch.dot(flat, flat))
    if not norm < limit / 2 and not torch.isfinite(made).all():
        fix = "run mashup check with `read` on the parents, or use `dtype` float32"
        raise InputError(Problem("result is not finite", where, str(dtype), "numbers", fix))
    return made
