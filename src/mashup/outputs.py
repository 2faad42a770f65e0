"""Outputs: files and folders that appear complete or not at all, written by one process at a time.

An output is written under a lock (:func:`only_one`) and under a temporary name that no other
process has. The system drops the lock of a killed process. The next process that writes the same
output removes what the killed one left under temporary names.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mashup.errors import InputError, OutputError, Problem, printable
from mashup.files import check_name, size

if TYPE_CHECKING:
    from filelock import BaseFileLock

_PART, _LOCK = ".mashup-part", ".mashup-lock"
_OURS = re.compile(rf"\..+\.[0-9a-f]{{8}}{_PART}|\..+{_LOCK}", re.DOTALL)
_BYTES = re.compile("[\udc80-\udcff]")  # of names that are not UTF-8, as Python keeps them
_POLL = 0.05  # seconds between two attempts to get a lock
_ATTEMPTS = 5  # to make a name in a folder that others may remove
_LONGEST_NAME = 200  # bytes; file systems take 255, and the temporary name is longer
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSALS = _NO_ROOM | {
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EBUSY),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY),
    *(errno.ENAMETOOLONG, errno.ELOOP),
}
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
_UNKNOWN_ROOM = "free space unknown"
_FULL_DISK = ("os error", "no space left", "iostream error", "inline_container.cc")
_GONE = "parent directory"  # torch: "Parent directory X does not exist"


def to_json(value: Any, *, allow_nan: bool = False) -> str:
    """JSON text of ``value``: sorted keys, one trailing newline; NaN and infinity if allowed.

    Bytes of paths that are not UTF-8 are written as text, ``caf\\xe9``: no JSON can hold them.
    """
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=allow_nan, default=str) + "\n"
    if "\\udc" not in text:
        return text
    plain = json.dumps(value, ensure_ascii=False, allow_nan=allow_nan, default=str)
    escaped = _BYTES.sub(lambda byte: json.dumps(printable(byte[0]))[1:-1], plain)
    return json.dumps(json.loads(escaped), indent=2, sort_keys=True, allow_nan=allow_nan) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, whole or not at all, also when the power fails.

    Bytes of file names that are not UTF-8 are escaped, as :func:`mashup.errors.printable` does.
    """
    write_bytes(path, _BYTES.sub(lambda byte: printable(byte[0]), text).encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all, also when the power fails."""
    part = _temporary(path)
    with disk_errors(path):
        try:
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(part, path)
            _sync_one(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise


def append_text(path: Path, text: str) -> None:
    """Add ``text`` to the end of a file and flush it to the disk; a kill may cut it off."""
    with path.open("a") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def sync(path: Path) -> None:
    """Flush a file, or a folder with everything in it, to the disk (``fsync``)."""
    if path.is_dir() and not path.is_symlink():
        for inner in path.iterdir():
            sync(inner)
    _sync_one(path)


def _sync_one(path: Path) -> None:
    """Flush the bytes of a file, or the list of names in a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not every file system can
            raise
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and its parents. Of a link, make the folder that the link points to."""
    Path(os.path.realpath(path)).mkdir(parents=True, exist_ok=True)


def move(made: Path, path: Path) -> None:
    """Rename a finished file or folder to ``path``, after flushing it to the disk.

    A file at ``path`` is replaced by a file, an empty folder by a folder.
    """
    sync(made)
    os.replace(made, path)
    _sync_one(path.parent)


def refuse_existing(path: Path, ours: str = "") -> None:
    """Refuse an output that exists or cannot be written, before any work is done.

    Args:
        path: what will be made.
        ours: name of a file; a folder that has it is an output that the caller continues.

    Raises:
        InputError: ``path`` exists and is neither an empty folder nor has ``ours``, or its name is
            not UTF-8.
        OutputError: ``path`` is no valid name, cannot be read, or cannot be made.
    """
    check_name(path)
    with disk_errors(path):
        try:
            folder = stat.S_ISDIR(path.stat().st_mode)
        except FileNotFoundError:
            refuse_unwritable(path)
            return
        if ours and (path / ours).exists():
            return
        if folder and all(_OURS.fullmatch(name) for name in os.listdir(path)):
            return
    raise InputError(
        Problem(
            "output exists already",
            str(path),
            "a folder with files in it" if folder else "a file",
            "a new name or an empty folder",
            "choose another `output`, or remove it first",
        )
    )


def refuse_unwritable(path: Path) -> None:
    """Refuse a folder that cannot be made or written, before any work is done.

    Raises:
        OutputError: one of its parents is a file, or the nearest existing parent is not writable.
    """
    with disk_errors(path):
        whole = path.absolute()
        there = next(one for one in (whole, *whole.parents) if one.exists())
    if not there.is_dir():
        raise _output_error(path, f"{there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise _output_error(path, f"no permission to write in {there}")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to ``path`` after the block, or removed on an error.

    Raises:
        InputError: ``path`` exists already, or another process or thread is writing it.
        OutputError: the disk is full or not writable.
    """
    with only_one(path), disk_errors(path):
        refuse_existing(path)
        with temporary_folder(path) as part:
            yield part
            move(part, Path(os.path.realpath(path)))


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """An empty folder next to ``path``, with a unique name. It is removed after the block.

    The caller holds the lock (:func:`only_one`) of ``path`` or of the folder above it.
    """
    part = _temporary(Path(os.path.realpath(path)))
    try:
        part.mkdir(parents=True)  # within the block: Ctrl-C may come as soon as it is made
        try:
            yield part
        except FileNotFoundError as error:
            if part.exists():
                raise
            raise _output_error(path, "removed while it was being written") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def only_one(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of the output ``path``: no other process or thread writes it in the block.

    The lock is a hidden file next to ``path``, so ``path`` need not exist yet. Where the folder
    above ``path`` is not writable, the lock file is inside ``path``. What a killed process left
    under temporary names of ``path`` is removed.

    Args:
        path: the file or folder that is written.
        wait: wait for the other process instead of refusing.

    Raises:
        InputError: another process or thread is writing it.
        OutputError: the disk is full or not writable.
    """
    path = Path(os.path.realpath(path))
    with disk_errors(path), contextlib.ExitStack() as undo:
        inside = path.is_dir() and not os.access(path.parent, os.W_OK)
        folder = path if inside else path.parent
        undo.callback(_remove_empty, [one for one in (folder, *folder.parents) if not one.exists()])
        lock = _locked(folder / f".{_short(path)}{_LOCK}", path, wait)
        undo.callback(_unlock, lock)
        _sweep(path)
        kept = undo.pop_all()
    with kept:
        yield


def _locked(file: Path, path: Path, wait: bool) -> BaseFileLock | None:
    """An acquired lock; None on a file system without locks."""
    from filelock import FileLock, Timeout

    lock = FileLock(file, timeout=0, thread_local=False)
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            return lock
        except FileNotFoundError:  # another process that wrote nothing has just removed the folder
            _refuse_barren(file.parent, path)
        except FileExistsError:  # it was there for mkdir, and removed before pathlib looked at it
            if os.path.lexists(file.parent) and not file.parent.is_dir():
                raise
        except Timeout:
            _refuse_barren(file.parent, path)
            if not wait:
                found, fix = (
                    "another command is writing it",
                    "wait for it, or choose another `output`",
                )
                what = "output is being written"
                raise InputError(Problem(what, str(path), found, "a new name", fix)) from None
            time.sleep(_POLL)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return None
            raise


def _refuse_barren(folder: Path, path: Path) -> None:
    """Refuse an output on a file system where nothing can be made, such as /proc.

    Another process that wrote nothing may remove the folder just before the name is tried there,
    so one failure does not tell.
    """
    for attempt in range(_ATTEMPTS):
        there = next(one for one in (folder, *folder.parents) if one.exists())
        try:
            os.rmdir(tempfile.mkdtemp(dir=there))
            return
        except FileNotFoundError as error:
            if attempt == _ATTEMPTS - 1:
                raise _output_error(path, f"no new names in {there}") from error
            time.sleep(_POLL)


def _unlock(lock: BaseFileLock | None) -> None:
    """Remove the lock file, then release it: a waiting process notices and makes a new one."""
    if lock:
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()


def _remove_empty(folders: list[Path]) -> None:
    """Remove the folders that are empty, the innermost first."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _sweep(path: Path) -> None:
    """Remove what a killed process left at ``path`` and in it; the lock of ``path`` is held."""
    for part in _ours(path.parent):
        if _target(part) == _short(path):
            _remove(part)
    sweep_inside(path)


def sweep_inside(folder: Path) -> None:
    """Remove what a killed process left under temporary names in ``folder``.

    The caller holds the lock of the output that ``folder`` belongs to. Another process may be
    writing an output inside ``folder``. Such an output has its own lock file, so its temporary
    names stay.
    """
    for part in _ours(folder):
        if not (folder / f".{_target(part)}{_LOCK}").exists():
            _remove(part)


def _remove(part: Path) -> None:
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            part.unlink()


def _ours(folder: Path) -> list[Path]:
    """Files and folders in ``folder`` that have temporary names of this package."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(_PART)]
    except OSError:
        return []
    return [folder / name for name in names if _OURS.fullmatch(name)]


def _temporary(path: Path) -> Path:
    """A hidden unique name next to ``path``."""
    return path.with_name(f".{_short(path)}.{secrets.token_hex(4)}{_PART}")


def _target(part: Path) -> str:
    """The name (:func:`_short`) of the output that a temporary name belongs to."""
    return part.name[1 : -len(f".01234567{_PART}")]


def _short(path: Path) -> str:
    """The name of ``path``; a digest of it where a longer name would not be allowed."""
    name = os.fsencode(path.name)
    return path.name if len(name) <= _LONGEST_NAME else hashlib.sha256(name).hexdigest()[:16]


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise :class:`OutputError` where the disk is full, read-only or gone.

    Args:
        path: the output; the error names it.
    """
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        if reason := _refusal(error, path):
            raise _output_error(path, reason) from error
        raise


def _refusal(error: Exception, path: Path) -> str:
    """Why the disk refused, "" if the error has another cause (also of safetensors and torch)."""
    text = " ".join(str(error).split())[:300]
    raw = text.lower()
    if isinstance(error, OSError):
        if error.errno in _NO_ROOM:
            return f"{text}; {_free(path)}"
        gone = error.errno == errno.ENOENT and _is_within(error.filename, path)
        return text if gone or error.errno in _REFUSALS else ""
    if _GONE in raw:
        return text
    if "inline_container" in text:  # torch.save, whose text says nothing to a user
        text = "the file was cut off while it was written"
    return f"{text}; {_free(path)}" if any(sign in raw for sign in _FULL_DISK) else ""


def _is_within(name: Any, path: Path) -> bool:
    """Whether the missing file ``name`` belongs inside ``path``."""
    if not isinstance(name, str | os.PathLike):
        return False
    whole = Path(os.path.realpath(path))
    return whole in Path(os.path.realpath(name)).parents


def _free(path: Path) -> str:
    """Free space of the disk that ``path`` is on."""
    with contextlib.suppress(OSError):
        place = next(one for one in (path, *path.absolute().parents) if one.exists())
        return f"{size(shutil.disk_usage(place).free)} free"
    return _UNKNOWN_ROOM


def _output_error(path: Path, found: str) -> OutputError:
    full = found.endswith((_UNKNOWN_ROOM, " free"))
    expected = "room to write" if full else "a folder that can be written"
    fix = "free some space or choose" if full else "choose"
    fix += " another folder, then run the same command again"
    return OutputError(Problem("could not write", str(path), found, expected, fix))
