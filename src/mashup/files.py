"""Files and folders that are read: text, what identifies them, and checks of their paths."""

from __future__ import annotations

import difflib
import errno
import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mashup.errors import InputError, Problem
from mashup.strict import parse_json, read_plain

_TICK = 20_000_000  # nanoseconds; kernels stamp files by a clock of 1 to 10 ms
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # owner/name


def read_text(path: Path) -> str:
    """The content of a text file of at most 100 MB.

    Raises:
        InputError: missing, unreadable, too large, not a plain file, or not UTF-8.
    """
    try:
        return read_plain(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        fix = "check the path and the permissions"
        raise InputError(Problem("cannot read file", str(path), str(error), fix=fix)) from error


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        InputError: missing, unreadable, not JSON, or a name stands twice in an object.
    """
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise InputError(
            Problem("not JSON", str(path), str(error), "a JSON document", "copy the file again")
        ) from error


def check_name(path: Path) -> None:
    """Refuse a path that safetensors and tokenizers cannot open.

    Raises:
        InputError: its bytes are not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        fix = "rename the folder, or choose another one"
        problem = Problem("path is not UTF-8", str(path), "other bytes", "UTF-8", fix)
        raise InputError(problem) from None


def require_folder(path: Path, fix: str = "check the path") -> None:
    """Refuse a path that is not a folder.

    Raises:
        InputError: the path does not exist or is a file.
    """
    try:
        if path.is_dir():
            return
        is_there = path.exists()
    except ValueError:  # no name for a file
        is_there = False
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        is_there = False
    if is_there:
        fix = "give the folder that holds it"
        if path.suffix in (".yaml", ".yml", ".json"):
            fix += "; a file of settings is given by `config`"
        raise InputError(Problem("not a folder", str(path), "a file", "a folder", fix))
    near = _near(path)
    if fix == "check the path" and _HUB_ID.fullmatch(str(path)):
        command = f"hf download {path} --local-dir {path.name}"
        fix += f"; if it is on the Hub, give hub:{path}, or fetch it: {command}"
    raise InputError(Problem("no such folder", str(path), fix=near or fix))


def _near(path: Path) -> str:
    """A suggestion: the folder next to ``path`` with the most similar name; "" without one."""
    try:
        names = [one.name for one in path.parent.iterdir() if one.is_dir()]
    except (OSError, ValueError):
        return ""
    found = difflib.get_close_matches(path.name, names, 1)
    return f"did you mean {path.parent / found[0]}?" if found else ""


def digest_of(*values: Any) -> str:
    """SHA-256 (hex) of JSON-able values: equal values, equal digest."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 (hex) of the bytes of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stamp(files: Mapping[str, os.stat_result]) -> str:
    """A text that changes when one of the files changes. The contents are not read.

    Size and mtime are not enough: archives, image layers and ``touch -r`` set the mtime, and
    adapters of one shape have one size. No tool sets the ctime, and a file that replaces another
    has a new inode.

    Args:
        files: name to status.

    Returns:
        "" when a file changed within the last tick of the file system's clock. A second change
        within that tick would give the same stamp, so no stamp is given.
    """
    now = time.time_ns()
    if any(abs(now - one.st_ctime_ns) < _TICK for one in files.values()):
        return ""
    parts = (
        f"{name}:{s.st_size}:{s.st_mtime_ns}:{s.st_ctime_ns}:{s.st_ino}"
        for name, s in files.items()
    )
    return "|".join(parts)


def folder_stamp(folder: Path) -> str:
    """:func:`stamp` of the files directly in a folder; "" where there is no folder."""
    try:
        files = {path.name: path.stat() for path in sorted(folder.iterdir()) if path.is_file()}
    except OSError:
        return ""
    return stamp(files)


def size(count: int) -> str:
    """A number of bytes as text: ``4.9 MB``."""
    number = float(count)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def user_cache() -> Path:
    """The cache folder: ``$XDG_CACHE_HOME/mashup``, by default ``~/.cache/mashup``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mashup"
