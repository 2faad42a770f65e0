"""Check checkpoints without merging them: from headers, all problems at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mashup.checkpoint import (
    Checkpoint,
    Stored,
    locate,
    read_adapter,
    read_adapter_config,
    read_checkpoint,
    read_tensors,
    same_base,
)
from mashup.checkpoint.identity import HEAD, fingerprint, is_quantised, is_tied, read_config
from mashup.errors import InputError, Problem
from mashup.library.walk import find
from mashup.merge.changes import not_finite, spans
from mashup.merge.coverage import cover
from mashup.merge.parents import Parent, full_tensors
from mashup.weights import read_rows


@dataclass(frozen=True)
class Report:
    """What one checkpoint is and what is wrong with it.

    Attributes:
        checkpoint: as scanned.
        problems: why it cannot be merged; empty when it can.
        notes: what a user should know, in sentences.
        dtypes: of its tensors, most bytes first.
        bytes: of all its tensors.
    """

    checkpoint: Checkpoint
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    bytes: int = 0


def check(
    paths: Sequence[str | Path],
    *,
    base: str | Path | None = None,
    accept_base: bool = False,
    read: bool = False,
) -> tuple[Report, ...]:
    """Check every checkpoint at or below ``paths``.

    Args:
        paths: checkpoint folders, or folders of such.
        base: the base model; names, tensors, shapes and tying are compared with it.
        accept_base: do not mind blank or other names of the base.
        read: read all numbers as well and look for NaN and infinity.

    Raises:
        InputError: a path that holds no checkpoint, or a base that cannot be read.
    """
    folders = [folder for path in paths for folder in _checkpoints(Path(path))]
    known = _Base.read(base) if base is not None else None
    return tuple(_check(folder, known, accept_base, read) for folder in folders)


def _checkpoints(path: Path) -> list[Path]:
    if not path.is_dir():
        raise InputError(Problem("no such folder", str(path), fix="check the path"))
    found = sorted(one.path for one in find(path))
    if not found:
        fix = "give a folder with adapter_config.json, or with config.json and weights"
        raise InputError(Problem("no checkpoint here", str(path), "neither", "a checkpoint", fix))
    return found


@dataclass(frozen=True)
class _Base:
    """A base model by its headers."""

    name: str
    tensors: Mapping[str, Stored]
    tied: bool
    sizes: Mapping[str, object]

    @classmethod
    def read(cls, name: str | Path) -> _Base:
        folder = locate(name)
        tensors = read_tensors(folder)
        tied = is_tied(read_config(folder), tensors)
        kept = {n: s for n, s in tensors.items() if not (tied and n.endswith(HEAD))}
        return cls(str(name), kept, tied, fingerprint(folder))


def _check(folder: Path, base: _Base | None, accept_base: bool, read: bool) -> Report:
    checkpoint = read_checkpoint(folder)
    try:
        tensors, parent = _tensors(checkpoint)
    except InputError as error:
        return Report(checkpoint, error.problems)
    problems = [checkpoint.problem] if checkpoint.problem else []
    notes = _notes(checkpoint, base, accept_base)
    if base is not None and not problems:
        problems += _against(parent, base, accept_base)
    if read and not problems:
        problems += [p for stored in tensors if (p := _not_finite(stored))]
    sizes: dict[str, int] = {}
    for stored in tensors:
        sizes[stored.dtype] = sizes.get(stored.dtype, 0) + stored.info.bytes
    ordered = sorted(sizes, key=lambda dtype: -sizes[dtype])
    return Report(checkpoint, tuple(problems), notes, tuple(ordered), sum(sizes.values()))


def _tensors(checkpoint: Checkpoint) -> tuple[list[Stored], Parent]:
    """All stored tensors, and the checkpoint as a parent of a merge would be."""
    folder = checkpoint.path
    if checkpoint.problem is not None and checkpoint.kind == "full":
        raise InputError(checkpoint.problem)
    if checkpoint.kind == "full":
        return list(read_tensors(folder).values()), Parent(
            checkpoint, "", 1.0, None, full_tensors(folder)
        )
    adapter = read_adapter(folder, read_adapter_config(folder))
    halves = [half for module in adapter.modules.values() for half in (module.A, module.B)]
    return [*halves, *adapter.saved.values()], Parent(checkpoint, "", 1.0, adapter, {})


def _notes(checkpoint: Checkpoint, base: _Base | None, accept_base: bool) -> tuple[str, ...]:
    notes = []
    if not checkpoint.base and not accept_base:
        notes.append("names no base: merging it needs --accept-base, or scan --base")
    if is_quantised(checkpoint.base):
        notes.append(
            f"trained on a quantised base ({checkpoint.base}): what it learnt makes up for that "
            "base's rounding too, so on 16-bit weights it is a little off"
        )
    if base is not None and checkpoint.kind == "full":
        own = fingerprint(checkpoint.path)
        if own.get("tokenizer") and own["tokenizer"] != base.sizes.get("tokenizer"):
            notes.append("has another tokenizer than the base: rows are aligned by token")
    return tuple(notes)


def _against(parent: Parent, base: _Base, accept_base: bool) -> list[Problem]:
    """Name, coverage and ties against a base."""
    checkpoint, where = parent.checkpoint, str(parent.checkpoint.path)
    problems = cover(parent, base.tensors).problems(where)
    named_otherwise = same_base(checkpoint.base, base.name) is False
    if named_otherwise and not accept_base:
        fix = "give its own base, or pass --accept-base if it is the same model"
        found = checkpoint.base
        problems.insert(0, Problem("checkpoints of different bases", where, found, base.name, fix))
    return problems


def _not_finite(stored: Stored) -> Problem | None:
    if not stored.info.is_float:
        return None
    for start, stop in spans(stored.shape):
        if not bool(torch.isfinite(read_rows(stored, start, stop)).all()):
            return not_finite(str(stored.path), stored.name)
    return None
