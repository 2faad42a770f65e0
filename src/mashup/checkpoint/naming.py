"""Bases that a user has named for checkpoints that do not say: ``.mashup/bases.json``.

The file lies in the folder of a library and holds patterns (of paths below that folder) with
the name of a base each, so that the checkpoints themselves are never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from mashup.errors import InputError
from mashup.files import disk_errors, read_json, to_json, write_text

_FILE = Path(".mashup") / "bases.json"
_LEVELS = 6  # folders above a checkpoint that are looked into


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
    if not (root / _FILE).is_file():
        return {}
    try:
        names = read_json(root / _FILE)
    except InputError:
        return {}
    pairs = names.items() if isinstance(names, dict) else ()
    return {pattern: base for pattern, base in pairs if isinstance(base, str)}


def write_names(root: Path, names: Mapping[str, str]) -> None:
    """Add ``names`` to those of a library's folder.

    Raises:
        OutputError: the folder cannot be written.
    """
    with disk_errors(root / _FILE):
        (root / _FILE).parent.mkdir(exist_ok=True)
    write_text(root / _FILE, to_json(read_names(root) | dict(names)))
