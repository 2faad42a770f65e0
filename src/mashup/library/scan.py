"""Scan a folder for checkpoints; a second scan reads only what changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mashup.checkpoint import Checkpoint
from mashup.checkpoint.naming import named_base
from mashup.checkpoint.read import describe, with_unique_names
from mashup.errors import InputError, Problem
from mashup.files import require_folder
from mashup.library import records
from mashup.library.index import Index
from mashup.library.siblings import keep_one_per_run
from mashup.library.walk import Found, find
from mashup.tables import as_frame, as_html, as_text


@dataclass(frozen=True, repr=False)
class Library:
    """The checkpoints below ``root``: one a run, with the others of each run as ``siblings``.

    ``notes`` are lines on what was not looked into, and on an index that cannot be kept.
    """

    root: Path
    checkpoints: tuple[Checkpoint, ...]
    siblings: tuple[Checkpoint, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return as_text(self._title, self._rows())

    def _repr_html_(self) -> str:
        return as_html(self._title, self._rows())

    def to_pandas(self) -> Any:
        """A ``DataFrame`` with a row for each checkpoint."""
        return as_frame([{**row, "path": str(row["path"])} for row in self._rows()])

    @property
    def _title(self) -> str:
        broken = f", {len(self.problems)} with a problem" if self.problems else ""
        return f"Library {self.root}: {len(self.checkpoints)} checkpoints{broken}"

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {
                "name": one.name,
                "kind": one.kind,
                "base": one.base,
                "rank": one.rank,
                "task": one.task,
                "metric": one.metric and one.metric[0],
                "value": one.metric and one.metric[1],
                "problem": one.problem and one.problem.what,
                "path": one.path,
            }
            for one in self.checkpoints
        ]

    @property
    def usable(self) -> tuple[Checkpoint, ...]:
        """Checkpoints without a problem."""
        return tuple(checkpoint for checkpoint in self.checkpoints if checkpoint.usable)

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(c.problem for c in self.checkpoints if c.problem is not None)


def scan(root: str | Path, *, all_checkpoints: bool = False) -> Library:
    """Find the checkpoints at or below ``root`` from headers and JSON alone, without torch.

    Args:
        root: folder to search.
        all_checkpoints: keep every ``checkpoint-N`` of a run, not only its best or last.

    Raises:
        InputError: no such folder, or no checkpoint in it.
    """
    root = Path(root)
    require_folder(root)
    walk = find(root)
    if not walk.found:
        raise InputError(_nothing(root, walk.notes))
    with Index(root) as index:
        checkpoints = with_unique_names(_read_or_remember(root, walk.found, index))
        notes = (*walk.notes, *([str(index.problem)] if index.problem else []))
    if all_checkpoints:
        return Library(root, checkpoints, notes=notes)
    return Library(root, *keep_one_per_run(checkpoints), notes)


def _read_or_remember(root: Path, found: list[Found], index: Index) -> Iterator[Checkpoint]:
    """Paths in the index are relative to the library, so that it can be moved or mounted."""
    known, start = index.checkpoints(), len(os.path.join(root, ""))
    changed: dict[str, tuple[str, str]] = {}
    for one in found:
        relative = (str(one.path)[start:] if root.parts else str(one.path)) or "."
        stamp, record = known.pop(relative, ("", ""))
        is_known = one.stamp and stamp == one.stamp
        checkpoint = records.load(record, one.path) if is_known else None
        if checkpoint is None:
            checkpoint = _read(one.path)
            if one.stamp and checkpoint.problem is None:
                # a broken one is read again: its cause may be elsewhere
                changed[relative] = (one.stamp, records.dump(checkpoint))
        yield checkpoint if checkpoint.base else replace(checkpoint, base=named_base(one.path))
    if changed or known:
        index.replace_checkpoints(changed, known)


def _read(folder: Path) -> Checkpoint:
    """The checkpoint that was found in ``folder``, also when it has gone away since."""
    try:
        return describe(folder)
    except InputError as error:
        return Checkpoint(folder, "lora", problem=error.problems[0])


def _nothing(root: Path, notes: tuple[str, ...]) -> Problem:
    return Problem(
        "no checkpoint in the folder",
        str(root),
        "; ".join(("neither a PEFT adapter nor a model in it or below it", *notes)),
        "folders with adapter_config.json and adapter_model.safetensors",
        "point at the folder that your trainer wrote its runs to",
    )
