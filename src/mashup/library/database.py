"""SQLite files that are never in the way: what cannot be kept on disk is kept in memory.

A file that is damaged is made again by its opener. One that cannot be used (locked, on a full or
read-only disk, no place for it at all) is left as it is, and the process goes on in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, Self, TypeVar

from mashup.errors import Problem
from mashup.files import user_cache

T = TypeVar("T")

_PATIENCE = 8  # seconds to wait for another process's lock
#: Primary result codes of SQLite (https://sqlite.org/rescode.html) that say nothing of what the
#: file holds: PERM, BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL,
#: NOLFS, AUTH.
_UNUSABLE = frozenset((3, 5, 6, 7, 8, 9, 10, 13, 14, 15, 22, 23))
_WAITING = frozenset((5, 6, 15))
#: What SQLite raises; of a damaged file the text of the message may be damaged too.
FAULTS = (sqlite3.DatabaseError, UnicodeDecodeError)


class Opener(Protocol):
    """Opens a file, whatever state it is in; with ``damaged`` it is known to be unsound.

    Returns a connection, None when the file must be left alone, and what the user should know.
    """

    def __call__(
        self, path: Path, *, damaged: bool = False
    ) -> tuple[sqlite3.Connection | None, Problem | None]: ...


class Database:
    """One SQLite file below the folder of what a library remembers. Use it as a context manager.

    Attributes:
        path: of the file, or where it would be; ``:memory:`` without a place for it.
        problem: what the user should know: nothing is kept on disk, or the file was damaged.
        in_memory: whether nothing is kept on disk.
    """

    def __init__(self, root: Path, file: str, opener: Opener, tables: Sequence[str]) -> None:
        self.path, self.problem = Path(":memory:"), None
        self._opener, self._tables = opener, tables
        self.in_memory = self._is_remade = False
        try:
            self.path = place(root) / file
            if self.path.exists() and not self.path.is_file():
                raise OSError("not a regular file")  # SQLite waits for ever on a pipe
            db, self.problem = opener(self.path)
        except (OSError, RuntimeError, *FAULTS) as error:
            db, self.problem = None, self._not_kept(error)
        self._db = db or self._memory()

    def close(self) -> None:
        with contextlib.suppress(*FAULTS):
            self._db.close()

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What ``work`` returns, which is one read or one transaction.

        When the file fails, ``work`` is done again: on a new file if the old one was damaged, else
        in memory.
        """
        for _ in range(3):
            try:
                return work(self._db)
            except sqlite3.ProgrammingError:
                raise
            except FAULTS as error:
                self._recover(error)
        return work(self._db)

    def _recover(self, error: Exception) -> None:
        """Put another database in the place of the one that failed."""
        is_damaged, made = not is_unusable(error), None
        if is_damaged and not self.in_memory and not self._is_remade:
            self._is_remade = True  # it may be damaged again, but not without end
            self.close()
            try:
                made, self.problem = self._opener(self.path, damaged=True)
            except (OSError, *FAULTS) as again:
                error = again
        if made is None:
            self.problem = self.problem or self._not_kept(error)
            copied = not is_damaged and _code(error) not in _WAITING
            made = self._memory(self._db if copied else None)
            self.close()
        self._db = made

    def _memory(self, old: sqlite3.Connection | None = None) -> sqlite3.Connection:
        """A database in memory, with what can still be read of ``old``."""
        self.in_memory = True
        db = sqlite3.connect(":memory:")
        db.text_factory = _decoded
        if old is not None:
            try:
                old.backup(db)
                db.execute("CREATE TABLE probe (x)")  # a copy may be read-only, as its file is
                db.execute("DROP TABLE probe")
            except FAULTS:
                db.close()
                return self._memory()
        with db:
            for table in self._tables:
                db.execute(f"CREATE TABLE IF NOT EXISTS {table}")
        return db

    def _not_kept(self, error: Exception) -> Problem:
        found = " ".join(str(error).split()) or type(error).__name__
        fix = "free some space, or make that folder writable; until then it is only in memory"
        return Problem("cannot remember results", str(self.path), found, "room to write", fix)


class Kept:
    """What is kept in one :class:`Database`. Use it as a context manager.

    Attributes:
        path: of the file.
        problem: what the user should know of it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def path(self) -> Path:
        return self._database.path

    @property
    def problem(self) -> Problem | None:
        return self._database.problem

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()


def connect(path: Path) -> sqlite3.Connection:
    """A connection with a write-ahead log. Text that is damaged is read, not an error."""
    db = sqlite3.connect(path, timeout=_PATIENCE)
    db.text_factory = _decoded
    with contextlib.suppress(*FAULTS):  # another process does it, or it is damaged
        db.execute("PRAGMA journal_mode=WAL")
    return db


def is_writable_format(path: Path) -> bool:
    """Whether SQLite writes a file of this format: byte 18 of the header is 1 or 2.

    It reads others, and refuses to write them as if the disk were read-only
    (https://www.sqlite.org/fileformat.html, section 1.3.3).
    """
    with path.open("rb") as stream:
        header = stream.read(19)
    return len(header) < 19 or header[18] in (1, 2)


def is_unusable(error: Exception) -> bool:
    """Whether an error is of the disk or of another process, not of what the file holds."""
    return _code(error) in _UNUSABLE


def _code(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", 1) & 0xFF


def _decoded(text: bytes) -> str:
    return text.decode(errors="replace")


def place(root: Path) -> Path:
    """The folder of what the library at ``root`` remembers: next to it, else in the user's cache.

    Raises:
        OSError, RuntimeError: neither can be written.
    """
    local = root / ".mashup"
    with contextlib.suppress(OSError):
        local.mkdir(exist_ok=True)
        if all(os.access(path, os.W_OK) for path in (local, *local.glob("*.sqlite"))):
            return local
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    cache = user_cache() / "libraries" / name
    cache.mkdir(parents=True, exist_ok=True)
    return cache
