"""The ledger of a library: what was ever measured of each checkpoint on each task.

One SQLite file with a write-ahead log, ``ledger.sqlite`` next to the library's index. The index can
be rebuilt at little cost; the ledger cannot. So nothing in it is dropped: an older file is brought
to the present version, a damaged or unknown one is renamed and a new one started, and a newer one
is left as it is.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mashup.errors import Problem, printable
from mashup.library.database import FAULTS, Database, Kept, connect, is_unusable, is_writable_format
from mashup.outputs import only_one

Value = Literal["loss", "accuracy", "knowledge"]

VERSION = 2  # of the table; version 1 had no knowledge
_TABLE = """measured (
    base TEXT, donor TEXT, task TEXT, name TEXT, examples INTEGER,
    loss REAL, accuracy REAL, at REAL, knowledge REAL, PRIMARY KEY (base, donor, task)
) WITHOUT ROWID"""
_FROM_1 = "ALTER TABLE measured ADD COLUMN knowledge REAL"
_KEEP = """INSERT INTO measured (base, donor, task, name, examples, loss, accuracy, at, knowledge)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (base, donor, task) DO UPDATE SET
    name = excluded.name, examples = excluded.examples, loss = excluded.loss,
    accuracy = excluded.accuracy, at = excluded.at,
    knowledge = coalesce(excluded.knowledge, knowledge) WHERE excluded.examples >= examples"""
_READ = """SELECT donor, task, {value} FROM measured
    WHERE base = ? AND name IS NOT ? AND {value} IS NOT NULL"""


@dataclass(frozen=True)
class Measured:
    """What was measured of a checkpoint on a task.

    Attributes:
        base: key of the base model.
        donor: digest of the checkpoint.
        task: key of the task.
        name: of the task, for people.
        examples: number of examples that the numbers are over.
        loss: nats per answer token.
        accuracy: share of examples answered right, 0 to 1.
        knowledge: bits above the label prior; None where it was not measured.
        at: when, in seconds since 1970.
    """

    base: str
    donor: str
    task: str
    name: str
    examples: int
    loss: float
    accuracy: float
    knowledge: float | None = None
    at: float = field(default_factory=time.time)


class Ledger(Kept):
    """The SQLite file of past measurements. Use it as a context manager.

    Attributes:
        path: of the file.
        problem: what the user should know: the file was damaged, is of another version, or cannot
            be written.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(Database(root, "ledger.sqlite", _open, (_TABLE,)))

    def keep(self, rows: Iterable[Measured]) -> None:
        """Remember ``rows``; one over fewer examples never replaces one over more.

        A number that is not finite is kept as unknown; a row without any number is not kept.
        Nothing is kept when the file is of a newer version or cannot be written.
        """
        if self._database.in_memory:
            return
        made = [_row(one) for one in rows if math.isfinite(one.loss) or math.isfinite(one.accuracy)]

        def write(db: sqlite3.Connection) -> None:
            with db:
                db.executemany(_KEEP, made)

        self._database.run(write)

    def matrix(
        self,
        base: str,
        donors: Sequence[str],
        exclude_task: str | None = None,
        exclude_name: str | None = None,
        value: Value = "loss",
    ) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """``(donors × past tasks)`` of ``value``, NaN where unknown, and the keys of the tasks.

        Only tasks on which at least one of the ``donors`` was measured are columns.

        Args:
            base: key of the base model.
            donors: digests of checkpoints.
            exclude_task: key of the new task.
            exclude_name: name of the new task. Other splits of the same data have another key,
                and what was measured there may have been measured on rows held out here.
            value: which number.
        """
        if value not in get_args(Value):
            raise ValueError(f"value is {value!r}, expected one of {get_args(Value)}")
        read, name = _READ.format(value=value), exclude_name and printable(exclude_name)
        found = self._database.run(lambda db: db.execute(read, (base, name)).fetchall())
        wanted = set(donors)
        known = {
            (donor, task): number
            for donor, task, number in found
            if donor in wanted and task != exclude_task and isinstance(number, float)
        }  # a damaged row has text in place of a number
        tasks = tuple(sorted({task for _, task in known}))
        rows = [[known.get((donor, task), math.nan) for task in tasks] for donor in donors]
        return np.array(rows, float).reshape(len(donors), len(tasks)), tasks


def _row(one: Measured) -> tuple[object, ...]:
    loss, accuracy, knowledge = (
        number if number is not None and math.isfinite(number) else None
        for number in (one.loss, one.accuracy, one.knowledge)
    )
    where = (one.base, one.donor, one.task, printable(one.name))
    return (*where, one.examples, loss, accuracy, one.at, knowledge)


def _open(path: Path, *, damaged: bool = False) -> tuple[sqlite3.Connection | None, Problem | None]:
    """A connection, None when the file is of a newer version; and what the user should know.

    The file is locked meanwhile, so that two processes never rename each other's file.
    """
    with only_one(path, wait=True):
        found = None if damaged else _version(path)
        if found == VERSION:
            return connect(path), None
        if found is not None and found > VERSION:
            return None, _newer(path, found)
        if found == 1 and _upgraded(path):
            return connect(path), None
        problem = None
        if found != 0 or not _is_new(path):
            problem = _apart(path, _set_aside(path, found), found)
        db = connect(path)
        with db:
            db.execute("BEGIN IMMEDIATE")
            db.execute(f"CREATE TABLE {_TABLE}")
            db.execute(f"PRAGMA user_version={VERSION}")
        return db, problem


def _version(path: Path) -> int | None:
    """Version of the file, 0 when there is none or it has none, None when it is damaged."""
    if not path.exists():
        return 0
    if not is_writable_format(path):
        return None
    try:  # reading only: not a byte of a newer file changes
        with _reading(path) as db:
            sound = db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
            version = db.execute("PRAGMA user_version").fetchone()[0] if sound else None
            if version in (1, VERSION):
                columns = "loss, accuracy, at" + ", knowledge" * (version == VERSION)
                db.execute(f"SELECT {columns} FROM measured LIMIT 0")  # fails without them
            return version
    except FAULTS as error:
        if is_unusable(error):
            raise
        return None


def _is_new(path: Path) -> bool:
    """Whether there is no file, or one without any table."""
    if not path.exists():
        return True
    with _reading(path) as db:
        return not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def _reading(path: Path) -> contextlib.closing[sqlite3.Connection]:
    uri = f"{path.resolve().as_uri()}?mode=ro"
    return contextlib.closing(sqlite3.connect(uri, uri=True))


def _upgraded(path: Path) -> bool:
    """Bring a file of version 1 to version 2, in one transaction."""
    with contextlib.closing(connect(path)) as db, contextlib.suppress(*FAULTS), db:
        db.execute("BEGIN IMMEDIATE")
        db.execute(_FROM_1)
        db.execute(f"PRAGMA user_version={VERSION}")
    return _version(path) == VERSION


def _set_aside(path: Path, version: int | None) -> Path:
    """Rename the file, and its log with it, to a free name."""
    mark = "damaged" if version is None else f"v{version}"
    endings = itertools.chain([""], (f".{number}" for number in itertools.count(2)))
    names = (path.with_name(f"{path.stem}.{mark}{ending}{path.suffix}") for ending in endings)
    kept = next(name for name in names if not name.exists())
    for tail in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{path}{tail}", f"{kept}{tail}")
    return kept


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
        f"it was renamed to {kept.name}, and a new one was started",
    )
