"""Find the folders below a root that hold a checkpoint, with the sizes and times of their files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mashup.checkpoint import adapter, history
from mashup.checkpoint.config import CONFIG
from mashup.checkpoint.distributed import is_optimizer, trainer_of_shards
from mashup.checkpoint.read import FULL_WEIGHTS, kind_of

#: The files whose content a Checkpoint is made from.
_READ = frozenset(
    {
        *(CONFIG, adapter.WEIGHTS, adapter.PICKLE),
        *(history.MANIFEST, history.TRAINER_STATE, history.RESULTS),
        *FULL_WEIGHTS,
        "config.json",
        "README.md",
    }
)


@dataclass(frozen=True)
class Found:
    """A folder with a checkpoint; ``stamp`` changes when a file that matters does."""

    path: Path
    stamp: str


def find(root: Path) -> Iterator[Found]:
    """Every checkpoint folder at or below ``root``, hidden folders left out, links not followed."""
    pending = [os.fspath(root)]
    while pending:
        folder = pending.pop()
        files: dict[str, os.DirEntry[str]] = {}
        folders: set[str] = set()
        for entry in _entries(folder):
            if entry.is_dir(follow_symlinks=False):
                folders.add(entry.name)
                if not _is_internal(entry.name):
                    pending.append(entry.path)
            else:
                files[entry.name] = entry
        here = Path(folder)
        if kind_of({*files, *folders}) is not None and not is_optimizer(here.name, files):
            yield Found(here, _stamp(files))


def _is_internal(name: str) -> bool:
    """Hidden, half-written, or a part of the checkpoint above it."""
    return name.startswith(".") or name.endswith(".part") or trainer_of_shards([name]) is not None


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:  # not ours to read, or deleted by a trainer in the meantime
        return []


def _stamp(files: dict[str, os.DirEntry[str]]) -> str:
    parts = []
    for name in sorted(_READ & files.keys()):
        try:
            status = files[name].stat()
        except OSError:  # a dangling link, as half-downloaded Hub caches have, or one to itself
            continue
        parts.append(f"{name}:{status.st_size}:{status.st_mtime_ns}")
    return "|".join(parts)
