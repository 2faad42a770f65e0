"""Files that we write: whole or not at all, by one process at a time, and read back checked.

An output is written under a lock (:func:`only_one`) and under a temporary name that nobody else
has. The lock vanishes with a killed process; what such a process left under temporary names is
removed by the next one that writes the same output.
"""

from __future__ import annotations

import contextlib
import difflib
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from mashup.errors import InputError, OutputError, Problem, printable
from mashup.strict import parse_json, read_plain

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from pydantic import TypeAdapter

T = TypeVar("T")
#: Of the formats of files that this package writes; docs/stability.md lists them.
VERSION = 1
#: Code of the problem of a file that a later version of this package wrote.
NEWER = "file.newer"
_TICK = 20_000_000  # nanoseconds; kernels stamp files by a clock of 1 to 10 ms
_PART, _LOCK = ".mashup-part", ".mashup-lock"
_OURS = re.compile(rf"\..+\.[0-9a-f]{{8}}{_PART}|\..+{_LOCK}", re.DOTALL)
_BYTES = re.compile("[\udc80-\udcff]")  # of names that are not UTF-8, as Python keeps them
_POLL = 0.05  # seconds between two attempts to get a lock
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
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # owner/name
_GONE = "parent directory"  # torch: "Parent directory X does not exist"


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


def read_state(kind: type[T], path: Path, fix: str) -> T:
    """The content of a JSON file that this package wrote, checked against its type.

    A file without ``version`` was written before there were versions and is read as version 1.

    Args:
        kind: a pydantic model, or any type that pydantic can check.
        path: the file.
        fix: what the user can do about a damaged file.

    Raises:
        InputError: missing, unreadable, damaged, or of a newer version.
    """
    with _damage(path, fix):
        return _checker(kind)(read_plain(path))


def read_lines(kind: type[T], path: Path, fix: str, *, may_be_cut: bool = False) -> tuple[T, ...]:
    """The lines of a JSONL file that this package wrote, each checked as by :func:`read_state`.

    Args:
        kind, path, fix: as for :func:`read_state`.
        may_be_cut: drop a last line without an end, as a killed process leaves one.

    Raises:
        InputError: as :func:`read_state`.
    """
    with _damage(path, fix):
        *lines, rest = read_plain(path).split(b"\n")
        lines = lines if may_be_cut or not rest else [*lines, rest]
        for first in lines[:1]:
            _checker(_FirstLine)(first)
        return tuple(map(_checker(kind), lines))


@dataclass(frozen=True)
class _FirstLine:
    """What the first line of a JSONL file holds besides its values."""

    version: Literal[1] = 1


def to_lines(rows: Iterable[Mapping[str, Any]], *, is_start: bool = True) -> str:
    """JSONL text: one object a line. The first line of a file has the version of the format.

    Args:
        rows: JSON-able.
        is_start: whether the first of them is the first line of the file.
    """
    first = {"version": VERSION} if is_start else {}
    lines = [(first if place == 0 else {}) | dict(row) for place, row in enumerate(rows)]
    return "".join(json.dumps(line) + "\n" for line in lines)


def _checker(kind: Any) -> Callable[[bytes], Any]:
    check = _adapter(kind).validate_json
    return lambda content: check(content, strict=True)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


@contextlib.contextmanager
def _damage(path: Path, fix: str) -> Iterator[None]:
    """Turn what a damaged file of ours raises into one problem."""
    from pydantic import ValidationError

    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["loc"] == ("version",):
            what, fix = "file of a newer version", "update mashup"
            newer = Problem(what, str(path), first["msg"], fix=fix, code=NEWER)
            raise InputError(newer) from error
        found = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        raise InputError(Problem("damaged file", str(path), found, fix=fix)) from error
    except FileNotFoundError as error:
        raise InputError(Problem("cannot read file", str(path), "no such file", fix=fix)) from error
    except (OSError, ValueError) as error:
        raise InputError(Problem("damaged file", str(path), str(error), fix=fix)) from error


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


def sync(path: Path) -> None:
    """Have the system put a file, or a folder and all that is in it, on the disk."""
    if path.is_dir() and not path.is_symlink():
        for inner in path.iterdir():
            sync(inner)
    _sync_one(path)


def _sync_one(path: Path) -> None:
    """The bytes of a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not every file system can
            raise
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder with those above it, or that which a link leads to."""
    Path(os.path.realpath(path)).mkdir(parents=True, exist_ok=True)


def move(made: Path, path: Path) -> None:
    """Give a finished file or folder its name: it is on the disk before it is there.

    ``path`` may be a file, or an empty folder in place of which a folder comes.
    """
    sync(made)
    os.replace(made, path)
    _sync_one(path.parent)


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


def size(count: int) -> str:
    """Bytes for people: ``4.9 MB``."""
    number = float(count)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def stamp(files: Mapping[str, os.stat_result]) -> str:
    """A text that changes when one of the files does, made without reading them.

    Size and mtime alone would not do: archives, image layers and ``touch -r`` set the mtime, and
    adapters of one shape have one size. Nothing sets the ctime, and a file that replaces another
    has an inode of its own.

    Args:
        files: name to status.

    Returns:
        "" when a file has changed just now. A further change within the same tick of the file
        system's clock would not be seen, so such a stamp must not be remembered.
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


def check_name(path: Path) -> None:
    """Refuse a path that safetensors and tokenizers cannot open themselves.

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
    """Refuse a path that is not that of a folder.

    Raises:
        InputError: nothing is there, or a file.
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
        fix += f"; to use a checkpoint of the Hub, download it first: {command}"
    raise InputError(Problem("no such folder", str(path), fix=near or fix))


def _near(path: Path) -> str:
    """A question about the folder beside ``path`` whose name is nearest; "" without one."""
    try:
        names = [one.name for one in path.parent.iterdir() if one.is_dir()]
    except (OSError, ValueError):
        return ""
    found = difflib.get_close_matches(path.name, names, 1)
    return f"did you mean {path.parent / found[0]}?" if found else ""


def refuse_existing(path: Path, ours: str = "") -> None:
    """Refuse, before any work, to write over something or where nothing can be written.

    Args:
        path: what will be made.
        ours: name of the file that marks a folder which the caller goes on with.

    Raises:
        InputError: ``path`` exists and is neither an empty folder nor one of ours; or it is not
            UTF-8.
        OutputError: ``path`` cannot be a name, cannot be looked at, or cannot be made.
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
    """Refuse, before any work, a folder that cannot be made or written.

    Raises:
        OutputError: a file is in its way, or the nearest folder that exists takes no new names.
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
    """A temporary folder that becomes ``path`` when the block ends well, and vanishes otherwise.

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
    """An empty folder beside ``path`` with a name that nobody else has; gone after the block.

    Call it under :func:`only_one` of ``path``, or of the folder that it is in.
    """
    part = _temporary(Path(os.path.realpath(path)))
    part.mkdir(parents=True)
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
    """No other process or thread writes the output ``path`` within the block.

    The lock is a hidden file beside ``path``, so that ``path`` need not exist yet; it is inside
    ``path`` where the folder above is not writable. The system drops the lock of a process that
    is killed, and what that process left under temporary names is removed here.

    Args:
        path: the file or folder that is written.
        wait: wait for the other instead of refusing.

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
    """A lock that is held; None on a file system without locks."""
    from filelock import FileLock, Timeout

    lock = FileLock(file, timeout=0, thread_local=False)
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            return lock
        except FileNotFoundError:  # another that wrote nothing has just removed the folder
            _refuse_barren(file.parent, path)
        except Timeout:
            _refuse_barren(file.parent, path)
            if not wait:
                raise _busy(path) from None
            time.sleep(_POLL)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return None
            raise


def _refuse_barren(folder: Path, path: Path) -> None:
    """Refuse an output on a file system that knows no new names, such as /proc."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    try:
        os.rmdir(tempfile.mkdtemp(dir=there))
    except FileNotFoundError as error:
        raise _output_error(path, f"no new names in {there}") from error


def _busy(path: Path) -> InputError:
    fix = "wait for it, or choose another `output`"
    found = "another command is writing it"
    return InputError(Problem("output is being written", str(path), found, "a new name", fix))


def _unlock(lock: BaseFileLock | None) -> None:
    """Remove the file while it is still ours: who waits for it sees that and makes another."""
    if lock:
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders that were made and have stayed empty, from the inside out."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _sweep(path: Path) -> None:
    """Remove what a killed process left beside ``path`` and in it; the lock of ``path`` is held.

    In ``path`` lie temporary files and folders of its own and those of outputs below it, which
    may be in the making: these have a lock file.
    """
    for part in _ours(path.parent):
        if _target(part) == _short(path):
            _remove(part)
    sweep_inside(path)


def sweep_inside(folder: Path) -> None:
    """Remove what a killed process left under temporary names in ``folder``.

    For a folder that belongs to an output whose lock is held. Temporary names of outputs that
    have a lock file of their own stay.
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
    """What is in ``folder`` under temporary names of this package."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(_PART)]
    except OSError:
        return []
    return [folder / name for name in names if _OURS.fullmatch(name)]


def _temporary(path: Path) -> Path:
    """A hidden name beside ``path`` that nobody else has."""
    return path.with_name(f".{_short(path)}.{secrets.token_hex(4)}{_PART}")


def _target(part: Path) -> str:
    """The name (:func:`_short`) of what a temporary name is for."""
    return part.name[1 : -len(f".01234567{_PART}")]


def _short(path: Path) -> str:
    """The name of ``path``, or its digest where the name fills what the file system takes."""
    name = os.fsencode(path.name)
    return path.name if len(name) <= _LONGEST_NAME else hashlib.sha256(name).hexdigest()[:16]


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full, read-only or vanished place to write into an :class:`OutputError`.

    Args:
        path: what is written; named in the error.
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
    """How the disk said no, empty if it did not; safetensors and torch have errors of their own."""
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
    """Whether a file that is not there should be where ``path`` is written."""
    if not isinstance(name, str | os.PathLike):
        return False
    whole = Path(os.path.realpath(path))
    return whole in Path(os.path.realpath(name)).parents


def _free(path: Path) -> str:
    """Room on the disk that ``path`` is on."""
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
