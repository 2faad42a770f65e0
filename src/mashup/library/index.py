"""What a library remembers: checkpoints by size and time, digests and losses by content.

One SQLite file with a write-ahead log, ``.mashup/index.sqlite`` in the library's
folder, or in the user's cache when that folder cannot be written. It holds
nothing that cannot be made again; deleting it costs time only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from mashup.files import user_cache
from mashup.library.losses import Losses

_TABLES = (
    "checkpoint (path TEXT PRIMARY KEY, stamp TEXT, record TEXT)",
    "digest (path TEXT PRIMARY KEY, stamp TEXT, digest TEXT)",
    "content (digest TEXT, scheme TEXT, sketch BLOB, PRIMARY KEY (digest, scheme))",
    *Losses.TABLES,
)
_VERSION = 3  # raise it when the meaning of a record changes: older files are emptied


class Index:
    """The SQLite file behind a library. Use it as a context manager."""

    def __init__(self, root: Path) -> None:
        self.path = place(root) / "index.sqlite"
        self._db = _open(self.path)
        self.losses = Losses(self._db)

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def checkpoints(self) -> dict[str, tuple[str, str]]:
        """Path to (stamp, record) of every remembered checkpoint."""
        rows = self._db.execute("SELECT path, stamp, record FROM checkpoint")
        return {path: (stamp, record) for path, stamp, record in rows}

    def replace_checkpoints(
        self, changed: Mapping[str, tuple[str, str]], gone: Iterable[str]
    ) -> None:
        """Remember ``changed`` (path to stamp and record) and forget ``gone``."""
        rows = [(path, stamp, record) for path, (stamp, record) in changed.items()]
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?)", rows)
            self._db.executemany("DELETE FROM checkpoint WHERE path = ?", [(p,) for p in gone])

    def digest(self, path: Path, stamp: str) -> str | None:
        """Content digest that was kept for ``path`` at this size and time."""
        row = self._db.execute(
            "SELECT digest FROM digest WHERE path = ? AND stamp = ?", (str(path), stamp)
        ).fetchone()
        return row[0] if row else None

    def keep_digest(self, path: Path, stamp: str, digest: str) -> None:
        with self._db:
            row = (str(path), stamp, digest)
            self._db.execute("INSERT OR REPLACE INTO digest VALUES (?, ?, ?)", row)

    def sketch(self, digest: str, scheme: str) -> bytes | None:
        """The sketch of the adapter of this content, as it was kept; None if it was not."""
        row = self._db.execute(
            "SELECT sketch FROM content WHERE digest = ? AND scheme = ?", (digest, scheme)
        ).fetchone()
        return row[0] if row else None

    def keep_sketch(self, digest: str, scheme: str, sketch: bytes) -> None:
        """Remember a sketch; an empty one says that the adapter changes nothing."""
        with self._db:
            row = (digest, scheme, sketch)
            self._db.execute("INSERT OR REPLACE INTO content VALUES (?, ?, ?)", row)


def place(root: Path) -> Path:
    """The folder of what the library at ``root`` remembers: beside it, else in the user's cache."""
    beside = root / ".mashup"
    with contextlib.suppress(OSError):
        beside.mkdir(exist_ok=True)
        if all(os.access(path, os.W_OK) for path in (beside, *beside.glob("*.sqlite"))):
            return beside
    name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    cache = user_cache() / "libraries" / name
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _open(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.OperationalError:  # locked, full, ...: its content is fine
        raise
    except sqlite3.DatabaseError:  # not a database any more: it can be made again
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=60)
    try:
        with contextlib.suppress(sqlite3.OperationalError):  # another process is doing it
            db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError(f"damaged: {path}")
        if _version(db) != _VERSION:
            _make_tables(db)
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def _version(db: sqlite3.Connection) -> int:
    return db.execute("PRAGMA user_version").fetchone()[0]


def _make_tables(db: sqlite3.Connection) -> None:
    """In one transaction, so that nobody sees half of it; another process may have been faster."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        if _version(db) != _VERSION:
            for (table,) in db.execute(
                "SELECT name FROM sqlite_master WHERE type='table'"
            ).fetchall():
                db.execute(f"DROP TABLE {table}")
            for table in _TABLES:
                db.execute(f"CREATE TABLE {table}")
            db.execute(f"PRAGMA user_version={_VERSION}")
