"""Files and JSON that are what they claim to be, read in bounded time and memory.

A checkpoint folder comes from anywhere: a pipe in the place of a file would hang a reader, a
name that stands twice in a JSON object means two things, and text nested a thousand deep or
with half a character in it breaks what comes after it.
"""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

_MAX_BYTES = 100_000_000  # of a JSON file; the largest tokenizers have 40 MB
_MAX_DEPTH = 100
_HALVES = re.compile(r"\\u[dD][89a-fA-F]")


class DoubledError(ValueError):
    """A name that stands twice in a JSON object."""


def check_plain(path: Path) -> int:
    """Bytes of a plain file, or of what a link leads to.

    Raises:
        OSError: missing, or a folder, a pipe or a device.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a plain file")
    return status.st_size


def read_plain(path: Path) -> bytes:
    """The bytes of a small plain file.

    Raises:
        OSError: missing, unreadable, no plain file, or larger than 100 MB.
    """
    size = check_plain(path)
    if size > _MAX_BYTES:
        raise OSError(f"{size:,} bytes, more than {_MAX_BYTES:,}")
    return path.read_bytes()


def parse_json(text: str) -> Any:
    """The value of a JSON text in which every name stands once.

    Raises:
        ValueError: not JSON; a name twice; more than 100 levels; half of a surrogate pair.
    """
    try:
        value = json.loads(text, object_pairs_hook=_no_doubles)
    except RecursionError:
        raise ValueError("nested too deep") from None
    _check_depth(value)
    if _HALVES.search(text):
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise DoubledError(f"{name[:200]} twice")
        found[name] = value
    return found


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [part for one in level if isinstance(one, dict | list) for part in _parts(one)]
        if not level:
            return
    raise ValueError("nested too deep")


def _parts(container: dict | list) -> Any:
    return container.values() if isinstance(container, dict) else container
