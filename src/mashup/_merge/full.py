"""Merge into a full checkpoint: safetensors to safetensors, tensor by tensor, in bounded memory."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path

import torch
from torch import Tensor

from mashup._merge.changes import CHUNK, OnDisk, spans
from mashup._merge.combine import Energy, Recipe, Tensors, energy_of, merged_pieces, run_all
from mashup._merge.heads import Heads
from mashup._merge.reference import Reference
from mashup._merge.shards import Shard, ShardWriter, cast, open_shards, plan_shards
from mashup.checkpoint import Stored
from mashup.checkpoint.identity import HEAD
from mashup.checkpoint.safetensors import TensorInfo
from mashup.errors import OutputError, Problem
from mashup.files import size
from mashup.progress import SILENT, Advance, Progress
from mashup.weights import SAFETENSORS, TORCH

LIBRARIES = 600_000_000  # bytes of Python, torch and numpy themselves, measured


@dataclass(frozen=True)
class FullPlan:
    """All that is decided before the first byte is written.

    Attributes:
        tensors: what to merge, in the order of the files.
        copied: tensors that are not weights (integers), taken from the reference.
        shards: the files to write.
        files: name of a merged tensor to the names that it, or its pieces, have in the files.
    """

    tensors: tuple[Tensors, ...]
    copied: Mapping[str, Stored]
    shards: tuple[Shard, ...]
    files: Mapping[str, tuple[str, ...]]

    @property
    def bytes_written(self) -> int:
        return sum(shard.bytes for shard in self.shards)

    @property
    def dtype(self) -> str:
        """torch's name of the type of most of the merged weights."""
        infos = [info for shard in self.shards for info in shard.tensors.values()]
        sizes = Counter({info.dtype: 0 for info in infos if info.is_float})
        for info in infos:
            sizes[info.dtype] += info.count if info.is_float else 0
        return str(TORCH[sizes.most_common(1)[0][0]]).removeprefix("torch.")

    def bytes_read(self) -> int:
        """Of one pass; trimming methods read the parents several times."""
        return sum(map(_read_bytes, self.tensors))

    def peak_memory(self, recipe: Recipe) -> int:
        """An upper estimate in bytes: the libraries, and each worker's pieces."""
        pieces = (_piece(one.in_pieces(recipe.method).shape) for one in self.tensors)
        held = max(pieces, default=0) * 4 * (2 * len(recipe.weights) + 8)
        loras = max((_lora_bytes(one) for one in self.tensors), default=0)
        return LIBRARIES + torch.get_num_threads() * (held + loras)


def _piece(shape: tuple[int, ...]) -> int:
    """Numbers in one piece of a tensor."""
    return max(CHUNK, math.prod(shape[1:]))


def _read_bytes(one: Tensors) -> int:
    values = [change.value for change in one.changes if change and change.value]
    values += [one.base] if one.base is not None else []
    sizes = (v.dtype.itemsize * max(1, torch.Size(v.shape).numel()) for v in values)
    return sum(sizes) + _lora_bytes(one)


def _lora_bytes(one: Tensors) -> int:
    return sum(module.A.info.bytes + module.B.info.bytes for module in one.loras)


def plan_full(
    reference: Reference, dtype: torch.dtype | None, shard_bytes: int, heads: Heads | None = None
) -> FullPlan:
    """Decide tensors, types and files.

    Args:
        reference: what the merged model looks like, with the parents matched.
        dtype: of the merged weights; None keeps the widest among the base and the values.
        shard_bytes: the most bytes of a file.
        heads: of classifiers.
    """
    tensors, infos, copied, files = [], {}, {}, {}
    for name, stored in reference.tensors.items():
        if not stored.info.is_float:
            copied[_in_file(name, stored)], infos[_in_file(name, stored)] = stored, stored.info
            continue
        base = reference.base(name)
        shape = tuple(base.shape) if base else stored.shape
        changes = tuple(parent.get(name) for parent in reference.changes)
        one = Tensors(name, shape or (1,), changes, base)
        tensors.append(one)
        kind = SAFETENSORS[dtype or _widest(stored, one)]
        pieces = {piece.name: TensorInfo(kind, piece.shape) for piece in stored.pieces}
        pieces = pieces or {_in_file(name, stored): TensorInfo(kind, shape)}
        infos |= pieces
        files[name] = tuple(pieces)
    for one in heads.tensors if heads else ():
        tensors.append(one)
        widest = reduce(torch.promote_types, (c.value.dtype for c in one.changes if c and c.value))
        infos[one.name] = TensorInfo(SAFETENSORS[dtype or widest], one.shape)
        files[one.name] = (one.name,)
    return FullPlan(tuple(tensors), copied, tuple(plan_shards(infos, shard_bytes)), files)


def _in_file(name: str, stored: Stored) -> str:
    """The name of a tensor in the files; a head that repeats an embedding gets its own."""
    return HEAD if name.endswith(HEAD) and not stored.name.endswith(HEAD) else stored.name


def _widest(stored: Stored, one: Tensors) -> torch.dtype:
    dtype = TORCH[stored.dtype]
    for change in one.changes:
        if change and change.value:
            dtype = torch.promote_types(dtype, change.value.dtype)
    return dtype


def check_disk(folder: Path, wanted: int) -> None:
    """Refuse a merge that the disk has no room for.

    Raises:
        OutputError: less free space than ``wanted`` bytes.
    """
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < wanted:
        found, expected = f"{size(free)} free", size(wanted)
        if found.startswith(expected):
            found, expected = f"{free:,} bytes free", f"{wanted:,} bytes"
        fix = "free some space or choose another `output`"
        raise OutputError(Problem("not enough disk space", str(folder), found, expected, fix))


def write_full(folder: Path, plan: FullPlan, recipe: Recipe, progress: Progress = SILENT) -> Energy:
    """Merge and write every tensor of ``plan`` into ``folder``.

    Returns:
        The energies of all tensors that can be compared with a base.

    Raises:
        InputError: numbers that are not finite, or a file that can no longer be read.
    """
    infos = {name: info for shard in plan.shards for name, info in shard.tensors.items()}
    sizes = {n: sum(infos[file].bytes for file in files) for n, files in plan.files.items()}
    largest = sorted(plan.tensors, key=lambda one: -sizes[one.name])
    with (
        open_shards(folder, plan.shards) as writer,
        progress.bar("merging", len(plan.tensors)) as advance,
    ):
        for name, stored in plan.copied.items():
            _copy(name, stored, writer)
        energies = run_all(
            partial(
                _merge_one,
                recipe,
                one,
                partial(writer.write, plan.files[one.name]),
                TORCH[infos[plan.files[one.name][0]].dtype],
                advance,
            )
            for one in largest
        )
    return sum(energies, Energy())


def _copy(name: str, stored: Stored, writer: ShardWriter) -> None:
    flat = OnDisk(stored).flat()
    for start, stop in spans(flat.shape):
        writer.write(name, start, flat.rows(start, stop))


def _merge_one(
    recipe: Recipe,
    one: Tensors,
    write: Callable[[int, Tensor], None],
    dtype: torch.dtype,
    advance: Advance,
) -> Energy:
    """Merge and write one tensor, and compare it with its base where that is given."""
    one, energy = one.in_pieces(recipe.method), Energy()
    place = None  # reused: new memory for every piece would cost more than the sum
    for piece in merged_pieces(recipe, one, compare=one.base is not None):
        place = torch.empty(piece.rows.shape, dtype=dtype) if place is None else place
        made = cast(piece.rows, dtype, one.name, place)
        write(piece.start, made)
        energy += energy_of(piece, made)
    advance()
    return energy
