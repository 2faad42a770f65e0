"""What checkpoints are called, and bases that a user has named for those that do not say.

The bases stand in ``.mashup/bases.json`` in the folder of a library: patterns of paths below that
folder, with the name of a base each, so that the checkpoints themselves are never changed.
"""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from mashup.checkpoint.history import step_of
from mashup.errors import InputError, printable
from mashup.files import disk_errors, read_json, to_json, write_text

#: A snapshot in the cache of the Hub: ``models--me--lora-a/snapshots/<commit>``.
_SNAPSHOT = re.compile(r".*/models--(?P<repo>[^/]+)/snapshots/(?P<commit>[^/]+)(?P<rest>/.+)?")
_COMMIT = 8  # characters of a commit in a name
_FILE = Path(".mashup") / "bases.json"
_LEVELS = 6  # folders above a checkpoint that are looked into


def names_of(folder: Path) -> Iterator[str]:
    """Names of a checkpoint's folder, the shortest first: more and more of its path.

    A step is called ``run/checkpoint-N`` at least, a snapshot of the Hub ``owner/name``.
    """
    path = printable(os.path.abspath(folder))
    least = 2 if step_of(folder) is not None else 1
    if "/snapshots/" in path and (match := _SNAPSHOT.fullmatch(path)):
        repo = match["repo"].replace("--", "/")
        rest = (match["rest"] or "").split("/")[1:]
        yield from _tails([repo, *rest], least)
        yield "/".join([f"{repo}@{match['commit'][:_COMMIT]}", *rest])
        yield path
    else:
        yield from _tails(path.split("/"), least)


def _tails(parts: Sequence[str], least: int) -> Iterator[str]:
    shortest = min(least, len(parts))
    return ("/".join(parts[-count:]) for count in range(shortest, len(parts) + 1))


def unique_names(folders: Sequence[Path], names: Sequence[str]) -> list[str]:
    """The shortest name of each folder that no other has.

    Args:
        folders: different ones; two that are the same keep the same name.
        names: what they are called so far. Only names that two of them share are made longer.
    """
    found = list(names)
    longer = [_longer(folder, name) for folder, name in zip(folders, names, strict=True)]
    changed = True
    while changed:
        shared = Counter(found)
        places = [place for place, name in enumerate(found) if shared[name] > 1]
        more = {place: name for place in places if (name := next(longer[place], ""))}
        for place, name in more.items():
            found[place] = name
        changed = bool(more)
    return found


def _longer(folder: Path, name: str) -> Iterator[str]:
    return (one for one in names_of(folder) if len(one) > len(name))


def named_base(folder: Path) -> str:
    """The base that the nearest ``.mashup/bases.json`` at or above names, "" for none."""
    here = folder.absolute()
    for root in (here, *here.parents)[:_LEVELS]:
        name = _matching(read_names(root), str(here.relative_to(root)))
        if name:
            return name
    return ""


def _matching(names: Mapping[str, str], path: str) -> str:
    return next((base for pattern, base in names.items() if fnmatchcase(path, pattern)), "")


def read_names(root: Path) -> dict[str, str]:
    """Pattern to base, empty when nothing is named there."""
    try:
        names = read_json(root / _FILE) if (root / _FILE).is_file() else {}
    except (InputError, OSError):
        return {}
    pairs = names.items() if isinstance(names, dict) else ()
    return {pattern: base for pattern, base in pairs if isinstance(base, str)}


def write_names(root: Path, names: Mapping[str, str]) -> None:
    """Add ``names``, of paths below a library's folder, to those that it has.

    A byte of a path that is not UTF-8 stands in the file as ``?``, which matches any character.

    Raises:
        OutputError: the folder cannot be written.
    """
    patterns = {re.sub("[\udc80-\udcff]", "?", glob.escape(p)): base for p, base in names.items()}
    with disk_errors(root / _FILE):
        (root / _FILE).parent.mkdir(exist_ok=True)
    write_text(root / _FILE, to_json(read_names(root) | patterns))
