"""Open a ledger's file whatever state it is in, and never lose what it holds.

An older file is migrated, an unknown or a damaged one is renamed and a new one started, a newer
one is left as it is. Opening is alone in the folder, so two processes never rename each other's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from mashup.errors import Problem

VERSION = 1  # of the table; raise it with a migration from the one before
MIGRATIONS: Mapping[int, str] = {}  # version to the statement that makes it the next
_TABLE = """CREATE TABLE measured (
    base TEXT, donor TEXT, task TEXT, name TEXT, examples INTEGER,
    loss REAL, accuracy REAL, at REAL, PRIMARY KEY (base, donor, task)
) WITHOUT ROWID"""


def open_ledger(path: Path) -> tuple[sqlite3.Connection | None, Problem | None]:
    """A connection, None when the file is of a newer version; and what the user should know."""
    with _alone(path.parent):
        found = _version(path)
        if found == VERSION:
            return _connect(path), None
        if found is not None and found > VERSION:
            return None, _newer(path, found)
        if found == 0 and _is_new(path):
            return _created(path), None
        if found is not None and _migrated(path, found):
            return _connect(path), None
        kept = _set_aside(path, found)
        return _created(path), _apart(path, kept, found)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process opens a ledger here; the lock ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _version(path: Path) -> int | None:
    """Version of the file, 0 when there is none or it has none, None when it is damaged."""
    if not path.exists():
        return 0
    try:  # reading only: a newer file stays as it is to the byte
        with contextlib.closing(sqlite3.connect(f"{_uri(path)}?mode=ro", uri=True)) as db:
            sound = db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
            return db.execute("PRAGMA user_version").fetchone()[0] if sound else None
    except sqlite3.OperationalError:  # locked, no rights, ...: its content may be fine
        raise
    except sqlite3.DatabaseError:
        return None


def _uri(path: Path) -> str:
    return path.resolve().as_uri()


def _is_new(path: Path) -> bool:
    if not path.exists():
        return True
    with contextlib.closing(sqlite3.connect(f"{_uri(path)}?mode=ro", uri=True)) as db:
        return not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=60)
    with contextlib.suppress(sqlite3.OperationalError):  # another process is doing it
        db.execute("PRAGMA journal_mode=WAL")
    return db


def _created(path: Path) -> sqlite3.Connection:
    db = _connect(path)
    with db:
        db.execute("BEGIN IMMEDIATE")
        db.execute(_TABLE)
        db.execute(f"PRAGMA user_version={VERSION}")
    return db


def _migrated(path: Path, version: int) -> bool:
    """All steps to the present version in one transaction, or none."""
    steps = range(version, VERSION)
    if not all(step in MIGRATIONS for step in steps):
        return False
    with contextlib.closing(_connect(path)) as db, contextlib.suppress(sqlite3.DatabaseError), db:
        db.execute("BEGIN IMMEDIATE")
        for step in steps:
            db.execute(MIGRATIONS[step])
        db.execute(f"PRAGMA user_version={VERSION}")
    return _version(path) == VERSION


def _set_aside(path: Path, version: int | None) -> Path:
    """Rename the file, and its log with it, to a free name."""
    mark = "damaged" if version is None else f"v{version}"
    names = (path.with_name(f"{path.stem}.{mark}{n}{path.suffix}") for n in ("", *_numbers()))
    kept = next(name for name in names if not name.exists())
    for tail in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{path}{tail}", f"{kept}{tail}")
    return kept


def _numbers() -> Iterator[str]:
    return (f".{number}" for number in range(2, 1000))


def _newer(path: Path, version: int) -> Problem:
    return Problem(
        "the ledger is of a newer version",
        str(path),
        f"version {version}",
        f"version {VERSION} or older",
        "update mashup; until then past measurements are neither read nor kept",
    )


def _apart(path: Path, kept: Path, version: int | None) -> Problem:
    return Problem(
        "the ledger is damaged" if version is None else "the ledger is of an unknown old version",
        str(path),
        "not a sound SQLite file" if version is None else f"version {version}",
        f"version {VERSION}",
        f"it lies now in {kept.name}, and a new one was started",
    )
