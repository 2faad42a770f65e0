"""Reading JSON with errors that help, digests, and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mashup.errors import InputError, OutputError, Problem
from mashup.strict import parse_json, read_plain

_PART = ".part"
_REFUSALS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS),
    *(errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR),
}
_FULL_DISK = ("os error", "no space left", "iostream error", "inline_container.cc")


def read_text(path: Path) -> str:
    """A text file that is small enough to be one.

    Raises:
        InputError: missing, unreadable, no plain file, or not UTF-8.
    """
    try:
        return read_plain(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        fix = "check the path and the permissions"
        raise InputError(Problem("cannot read file", str(path), str(error), fix=fix)) from error


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        InputError: the file is missing, unreadable, not JSON, or JSON that means two things.
    """
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise InputError(
            Problem("not JSON", str(path), str(error), "a JSON document", "copy the file again")
        ) from error


def to_json(value: Any, *, allow_nan: bool = False) -> str:
    """JSON text of ``value``: sorted keys, one trailing newline; NaN and infinity if allowed."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=allow_nan, default=str) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` by way of a temporary name, so that it is never half there."""
    part = path.with_name(path.name + _PART)
    try:
        with disk_errors(path):
            part.write_text(text, encoding="utf-8")
            os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def user_cache() -> Path:
    """The folder for what can be made again: ``$XDG_CACHE_HOME/mashup``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mashup"


def digest_of(*values: Any) -> str:
    """SHA-256 (hex) of JSON-able values: equal values, equal digest."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 (hex) of the bytes of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def refuse_existing(path: Path) -> None:
    """Refuse to write over something.

    Raises:
        InputError: ``path`` exists and is not an empty folder.
    """
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        raise InputError(
            Problem(
                "output exists already",
                str(path),
                "a folder with files in it" if path.is_dir() else "a file",
                "a new name or an empty folder",
                "choose another --output, or remove it first",
            )
        )


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``path`` when the block ends well, and vanishes otherwise.

    Raises:
        InputError: ``path`` exists already, or another process or thread is writing it.
        OutputError: the disk is full or not writable.
    """
    refuse_existing(path)
    part = path.with_name(path.name + _PART)
    with disk_errors(path), _claimed(part, path):
        try:
            yield part
            if path.is_dir():
                path.rmdir()
            os.replace(part, path)
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def _claimed(part: Path, path: Path) -> Iterator[None]:
    """``part``, empty, for this block alone; the lock vanishes with a process that is killed."""
    part.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(part, os.O_RDONLY)
    try:
        if not _is_ours(descriptor, part):
            raise _busy(path)
        for left in part.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield
    finally:
        os.close(descriptor)


def _is_ours(descriptor: int, part: Path) -> bool:
    """Lock an open folder; whether nobody else has, or has moved it away meanwhile."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return part.exists() and os.path.samestat(os.fstat(descriptor), part.stat())


def _busy(path: Path) -> InputError:
    fix = "wait for it, or choose another --output"
    found = "another command is writing it"
    return InputError(Problem("output is being written", str(path), found, "a new name", fix))


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into an :class:`OutputError` that names ``path``."""
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        if _is_refusal(error):
            raise _output_error(path, error) from error
        raise


def _is_refusal(error: Exception) -> bool:
    """Whether the disk said no; safetensors and torch say so in errors of their own."""
    if isinstance(error, OSError):
        return error.errno in _REFUSALS
    return any(sign in str(error).lower() for sign in _FULL_DISK)


def _output_error(path: Path, error: Exception) -> OutputError:
    fix = "free some space or choose another folder, then run the same command again"
    return OutputError(Problem("could not write", str(path), str(error), "room to write", fix))
