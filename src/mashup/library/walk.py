"""Find the folders below a root that hold a checkpoint, with the stamps of their files."""

from __future__ import annotations

import errno
import heapq
import os
from collections.abc import Sized
from dataclasses import dataclass, field
from pathlib import Path

from mashup.checkpoint import adapter, history
from mashup.checkpoint.config import CONFIG
from mashup.checkpoint.read import FULL_WEIGHTS, is_optimizer, kind_of, trainer_of_shards
from mashup.errors import printable
from mashup.files import stamp

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
_GONE = (errno.ENOENT, errno.ENOTDIR)


@dataclass(frozen=True)
class Found:
    """A folder with a checkpoint; ``stamp`` changes when a file that matters does."""

    path: Path
    stamp: str


@dataclass
class Walk:
    """What lies at and below a root.

    Attributes:
        found: the folders with a checkpoint, by path. One that can be reached in several ways is
            there once.
        dangling: links that lead nowhere, except files of a checkpoint.
        loops: links to a folder that they lie in, or to themselves.
        unreadable: folders that could not be listed, with the reason.
    """

    root: Path
    found: list[Found] = field(default_factory=list)
    dangling: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    _seen: set[tuple[int, int]] = field(default_factory=set)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not looked into: a line for each kind, with the count and the first."""
        notes = []
        if self.dangling:
            notes.append(f"{_count(self.dangling, 'dangling link')}: {min(self.dangling)}")
        if self.loops:
            what = _count(self.loops, "link")
            notes.append(f"{what} to a folder above not followed: {min(self.loops)}")
        if self.unreadable:
            first, why = min(self.unreadable.items())
            what = _count(self.unreadable, "folder")
            shown = first if len(first) < 200 else f"{first[:100]} ... {first[-100:]}"
            notes.append(f"{what} not searched ({why}): {shown}")
        return tuple(map(printable, notes))

    def go(self) -> None:
        """List folders of the root itself first, then what links lead to, in the order of names.

        So a folder is called by its own path where it has one below the root.
        """
        folders, links = [os.fspath(self.root)], list[str]()
        while folders or links:
            if folders:
                self._enter(folders.pop(), folders, links)
            elif self._leads_up(link := heapq.heappop(links)):
                self.loops.append(link)
            else:
                folders.append(link)
        self.found.sort(key=lambda one: one.path.parts)

    def _enter(self, folder: str, folders: list[str], links: list[str]) -> None:
        """Look into one folder; what lies in it is added to ``folders`` and ``links``."""
        try:
            entries = self._entries(folder)
        except OSError as error:
            if error.errno not in _GONE:  # a trainer may have deleted it in the meantime
                self.unreadable[folder] = error.strerror or str(error)
            return
        files: dict[str, os.DirEntry[str]] = {}
        inner: set[str] = set()
        dangling: list[str] = []
        for entry in entries:
            is_link = entry.is_symlink()
            if is_link and not self._leads_somewhere(entry, dangling):
                continue
            if not entry.is_dir(follow_symlinks=is_link):
                files[entry.name] = entry
                continue
            inner.add(entry.name)
            if not _is_internal(entry.name):
                if is_link:
                    heapq.heappush(links, entry.path)
                else:
                    folders.append(entry.path)
        here = Path(folder)
        if kind_of({*files, *inner}) is None or is_optimizer(here.name, files):
            self.dangling += dangling
        else:
            self.found.append(Found(here, _stamp(files)))

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        """What a folder holds; nothing when it was listed before under another path."""
        status = os.stat(folder)
        place = (status.st_dev, status.st_ino)
        if place in self._seen:
            return []
        self._seen.add(place)
        with os.scandir(folder) as entries:
            return list(entries)

    def _leads_somewhere(self, link: os.DirEntry[str], dangling: list[str]) -> bool:
        try:
            link.stat()
        except OSError as error:
            if not link.name.startswith("."):
                (self.loops if error.errno == errno.ELOOP else dangling).append(link.path)
            return False
        return True

    def _leads_up(self, link: str) -> bool:
        """Whether a link leads to a folder that it lies in, by its own path or by way of links."""
        target, path = os.path.realpath(link), Path(link)
        above = (p for p in path.parents if p == self.root or self.root in p.parents)
        return any(Path(os.path.realpath(p)).is_relative_to(target) for p in above)


def find(root: Path) -> Walk:
    """Every checkpoint folder at or below ``root``; hidden and half-written ones are left out.

    Links to folders are followed, and each folder is listed once (by device and inode).
    """
    walk = Walk(root)
    walk.go()
    return walk


def _count(things: Sized, noun: str) -> str:
    count = len(things)
    return f"{count} {noun}{'s' * (count != 1)}"


def _is_internal(name: str) -> bool:
    """Hidden, half-written, or a part of the checkpoint above it."""
    return name.startswith(".") or name.endswith(".part") or trainer_of_shards([name]) is not None


def _stamp(files: dict[str, os.DirEntry[str]]) -> str:
    found = {}
    for name in sorted(_READ & files.keys()):
        try:
            found[name] = files[name].stat()
        except OSError:  # deleted in the meantime, or in a folder that may only be listed
            continue
    return stamp(found)
