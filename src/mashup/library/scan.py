"""Scan a folder for checkpoints; a second scan reads only what changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mashup.checkpoint import Checkpoint
from mashup.checkpoint.naming import named_base
from mashup.checkpoint.read import describe
from mashup.errors import InputError, Problem
from mashup.library import records
from mashup.library.index import Index
from mashup.library.siblings import keep_one_per_run
from mashup.library.walk import Found, find


@dataclass(frozen=True)
class Library:
    """The checkpoints below ``root``: one a run, with the others of each run as ``siblings``."""

    root: Path
    checkpoints: tuple[Checkpoint, ...]
    siblings: tuple[Checkpoint, ...] = ()

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
    if not root.is_dir():
        raise InputError(Problem("no such folder", str(root), fix="check the path"))
    found = sorted(find(root), key=lambda one: one.path)
    if not found:
        raise InputError(_nothing(root))
    checkpoints = _read_or_remember(root, found)
    if all_checkpoints:
        return Library(root, checkpoints)
    return Library(root, *keep_one_per_run(checkpoints))


def _read_or_remember(root: Path, found: list[Found]) -> tuple[Checkpoint, ...]:
    """Paths in the index are relative to the library, so that it can be moved or mounted."""
    with Index(root) as index:
        known = index.checkpoints()
        checkpoints, changed = [], {}
        for one in found:
            relative = str(one.path.relative_to(root))
            stamp, record = known.get(relative, (None, ""))
            if stamp == one.stamp:
                checkpoints.append(replace(records.load(record), path=one.path))
                continue
            checkpoint = describe(one.path)
            checkpoints.append(checkpoint)
            if checkpoint.problem is None:  # a broken one is read again: its cause may be elsewhere
                changed[relative] = (one.stamp, records.dump(checkpoint))
        gone = known.keys() - {str(one.path.relative_to(root)) for one in found}
        if changed or gone:
            index.replace_checkpoints(changed, gone)
    return tuple(c if c.base else replace(c, base=named_base(c.path)) for c in checkpoints)


def _nothing(root: Path) -> Problem:
    return Problem(
        "no checkpoint in the folder",
        str(root),
        "neither a PEFT adapter nor a model in it or below it",
        "folders with adapter_config.json and adapter_model.safetensors",
        "point at the folder that your trainer wrote its runs to",
    )
