"""What a library remembers: checkpoints by their files, digests and losses by content.

One SQLite file with a write-ahead log, ``.mashup/index.sqlite`` in the library's
folder, or in the cache of the user when that folder cannot be written. It holds
nothing that cannot be made again; deleting it costs time only.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mashup.library.database import FAULTS, Database, Kept, connect, is_unusable, is_writable_format
from mashup.outputs import only_one

T = TypeVar("T")


_FLOAT = 8  # bytes of a log-probability
_MOST = 500  # values of one SQL statement
_ADD = "INSERT OR IGNORE INTO"


class Loss(NamedTuple):
    """What one forward pass of one example gave.

    Attributes:
        loss: nats, summed over the answer's tokens; not finite when the model diverged.
        correct: whether every answer token is the most likely one.
        seconds: the example's share of the time of its batch.
        answers: log-probability of every answer of a finite set, as float64 bytes; empty for
            free text. Which set it is stands in the example's key.
    """

    loss: float
    correct: bool
    seconds: float
    answers: bytes = b""


class Losses:
    """The tables of an :class:`Index` that hold losses."""

    TABLES = (
        "model (id INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL)",
        "example (id INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL)",
        "loss (model INTEGER, example INTEGER, loss REAL, correct INTEGER, seconds REAL,"
        " answers BLOB, mark INTEGER, PRIMARY KEY (model, example)) WITHOUT ROWID",
    )

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, model: str, examples: Sequence[str]) -> dict[str, Loss]:
        """What is known of ``examples`` under ``model``, both by key; what is damaged is not."""
        known: dict[str, Loss] = {}
        for start in range(0, len(examples), _MOST):
            for key, *row, mark in self._rows(model, examples[start : start + _MOST]):
                if (one := _loss(*row)) and mark == _mark(model, key, one):
                    known[key] = one
        return known

    def _rows(self, model: str, examples: Sequence[str]) -> list[tuple[Any, ...]]:
        read = (
            "SELECT example.key, loss, correct, seconds, answers, mark FROM loss"
            " JOIN example ON example.id = loss.example"
            " WHERE loss.model = (SELECT model.id FROM model WHERE model.key = ?)"
            f" AND example.key IN ({','.join('?' * len(examples))})"
        )
        return self._database.run(lambda db: db.execute(read, (model, *examples)).fetchall())

    def keep(self, model: str, losses: Mapping[str, Loss]) -> None:
        """Add what is not known yet; what another process has written meanwhile stays."""

        def write(db: sqlite3.Connection) -> None:
            with db:
                db.execute("BEGIN IMMEDIATE")
                db.execute(f"{_ADD} model (key) VALUES (?)", (model,))
                db.executemany(f"{_ADD} example (key) VALUES (?)", [(key,) for key in losses])
                db.executemany(
                    f"{_ADD} loss SELECT model.id, example.id, ?, ?, ?, ?, ?"
                    " FROM model, example WHERE model.key = ? AND example.key = ?",
                    [(*one, _mark(model, key, one), model, key) for key, one in losses.items()],
                )

        self._database.run(write)


def _mark(model: str, example: str, one: Loss) -> int:
    """CRC-32 of a row and of what it is about: SQLite has no checksums, and a flipped bit of a loss
    is a loss too. SQLite keeps any NaN as NULL, and -0 as 0.
    """
    loss = math.nan if math.isnan(one.loss) else one.loss + 0.0
    numbers = struct.pack("<d?d", loss, one.correct, one.seconds)
    return zlib.crc32(b"\0".join((model.encode(), example.encode(), numbers, one.answers)))


def _loss(loss: object, correct: object, seconds: object, answers: object) -> Loss | None:
    """What a row says; None for one that we cannot have written."""
    loss = math.nan if loss is None else loss  # SQLite keeps a number that is none as NULL
    if not isinstance(loss, float) or correct not in (0, 1) or not isinstance(seconds, float):
        return None
    if not isinstance(answers, bytes) or len(answers) % _FLOAT:
        return None
    return Loss(loss, bool(correct), seconds, answers)


_TABLES = (
    "checkpoint (path BLOB PRIMARY KEY, stamp TEXT, record TEXT)",
    "digest (path BLOB PRIMARY KEY, stamp TEXT, digest TEXT)",
    "content (digest TEXT, scheme TEXT, sketch BLOB, PRIMARY KEY (digest, scheme))",
    *Losses.TABLES,
)
_VERSION = 6  # raise it when the meaning of a record changes: older files are emptied


class Index(Kept):
    """The SQLite file behind a library. Use it as a context manager.

    Attributes:
        path: of the file.
        problem: why nothing is kept on disk, if so.
        hashed: path to stamp and digest of the checkpoints whose bytes were read through this
            object, not noted by an earlier one.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(Database(root, "index.sqlite", _open, _TABLES))
        self.losses = Losses(self._database)
        self.hashed: dict[Path, tuple[str, str]] = {}

    def checkpoints(self) -> dict[str, tuple[str, str]]:
        """Path to (stamp, record) of every remembered checkpoint."""
        read = "SELECT path, stamp, record FROM checkpoint"
        rows = self._database.run(lambda db: db.execute(read).fetchall())
        sound = (row for row in rows if isinstance(row[0], bytes))
        return {os.fsdecode(path): (stamp, record) for path, stamp, record in sound}

    def replace_checkpoints(
        self, changed: Mapping[str, tuple[str, str]], gone: Iterable[str]
    ) -> None:
        """Remember ``changed`` (path to stamp and record) and forget ``gone``."""
        rows = [(os.fsencode(path), *noted) for path, noted in changed.items()]
        paths = [(os.fsencode(path),) for path in gone]

        def write(db: sqlite3.Connection) -> None:
            with db:
                db.executemany("INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?)", rows)
                db.executemany("DELETE FROM checkpoint WHERE path = ?", paths)

        self._database.run(write)

    def digest(self, path: Path, stamp: str) -> str | None:
        """Content digest that was kept for ``path`` with this stamp."""
        read = "SELECT digest FROM digest WHERE path = ? AND stamp = ?"
        return self._one(read, (os.fsencode(path), stamp), str)

    def keep_digest(self, path: Path, stamp: str, digest: str) -> None:
        self._write(
            "INSERT OR REPLACE INTO digest VALUES (?, ?, ?)", os.fsencode(path), stamp, digest
        )

    def sketch(self, digest: str, scheme: str) -> bytes | None:
        """The sketch of the adapter of this content, as it was kept; None if it was not."""
        read = "SELECT sketch FROM content WHERE digest = ? AND scheme = ?"
        return self._one(read, (digest, scheme), bytes)

    def keep_sketch(self, digest: str, scheme: str, sketch: bytes) -> None:
        """Remember a sketch; an empty one says that the adapter changes nothing."""
        self._write("INSERT OR REPLACE INTO content VALUES (?, ?, ?)", digest, scheme, sketch)

    def _one(self, read: str, values: tuple[object, ...], kind: type[T]) -> T | None:
        """The value that is asked for; None for none, or one of another type: it is damaged."""
        row = self._database.run(lambda db: db.execute(read, values).fetchone())
        return row[0] if row and isinstance(row[0], kind) else None

    def _write(self, statement: str, *row: object) -> None:
        def write(db: sqlite3.Connection) -> None:
            with db:
                db.execute(statement, row)

        self._database.run(write)


def _open(path: Path, *, damaged: bool = False) -> tuple[sqlite3.Connection, None]:
    """The index at ``path``, made again when it is damaged."""
    if not damaged:
        with contextlib.suppress(_Damaged):
            return _sound(path), None
    with only_one(path, wait=True):
        if not damaged:
            with contextlib.suppress(_Damaged):  # another process was faster
                return _sound(path), None
        for tail in ("-wal", "-shm", ""):
            path.with_name(path.name + tail).unlink(missing_ok=True)
        return _sound(path), None


class _Damaged(sqlite3.DatabaseError):
    """What the file holds is no index."""


def _sound(path: Path) -> sqlite3.Connection:
    if path.exists() and not is_writable_format(path):
        raise _Damaged(f"damaged: {path}")
    db = connect(path)
    try:
        db.execute("PRAGMA synchronous=NORMAL")
        if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise _Damaged(f"damaged: {path}")
        if _version(db) != _VERSION:
            _make_tables(db)
    except FAULTS as error:
        db.close()
        if is_unusable(error):
            raise
        raise _Damaged(str(error)) from error
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
