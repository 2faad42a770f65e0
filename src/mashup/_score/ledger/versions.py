"""Open a ledger's file whatever state it is in, and never lose what it holds.

An older file is migrated, an unknown or a damaged one is renamed and a new one started, a newer
one is left as it is. Opening is alone in the folder, so two processes never rename each other's.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from mashup.errors import Problem
from mashup.library.database import FAULTS, alone, connect, is_unusable

VERSION = 1  # of the table; raise it with a migration from the one before
MIGRATIONS: Mapping[int, str] = {}  # version to the statement that makes it the next
TABLE = """measured (
    base TEXT, donor TEXT, task TEXT, name TEXT, examples INTEGER,
    loss REAL, accuracy REAL, at REAL, PRIMARY KEY (base, donor, task)
) WITHOUT ROWID"""


def open_ledger(
    path: Path, *, damaged: bool = False
) -> tuple[sqlite3.Connection | None, Problem | None]:
    """A connection, None when the file is of a newer version; and what the user should know."""
    with alone(path.parent):
        found = None if damaged else _version(path)
        if found == VERSION:
            return connect(path), None
        if found is not None and found > VERSION:
            return None, _newer(path, found)
        if found == 0 and _is_new(path):
            return _created(path), None
        if found is not None and _migrated(path, found):
            return connect(path), None
        kept = _set_aside(path, found)
        return _created(path), _apart(path, kept, found)


def _version(path: Path) -> int | None:
    """Version of the file, 0 when there is none or it has none, None when it is damaged."""
    if not path.exists():
        return 0
    try:  # reading only: a newer file stays as it is to the byte
        with contextlib.closing(sqlite3.connect(f"{_uri(path)}?mode=ro", uri=True)) as db:
            sound = db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
            version = db.execute("PRAGMA user_version").fetchone()[0] if sound else None
            if version == VERSION:
                db.execute("SELECT * FROM measured LIMIT 0")  # fails without the table
            return version
    except FAULTS as error:
        if is_unusable(error):
            raise
        return None


def _uri(path: Path) -> str:
    return path.resolve().as_uri()


def _is_new(path: Path) -> bool:
    if not path.exists():
        return True
    with contextlib.closing(sqlite3.connect(f"{_uri(path)}?mode=ro", uri=True)) as db:
        return not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def _created(path: Path) -> sqlite3.Connection:
    db = connect(path)
    with db:
        db.execute("BEGIN IMMEDIATE")
        db.execute(f"CREATE TABLE {TABLE}")
        db.execute(f"PRAGMA user_version={VERSION}")
    return db


def _migrated(path: Path, version: int) -> bool:
    """All steps to the present version in one transaction, or none."""
    steps = range(version, VERSION)
    if not all(step in MIGRATIONS for step in steps):
        return False
    with contextlib.closing(connect(path)) as db, contextlib.suppress(*FAULTS), db:
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
