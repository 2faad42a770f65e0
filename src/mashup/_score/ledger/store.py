"""The ledger of a library: what was ever measured of each checkpoint on each task.

One SQLite file with a write-ahead log, ``ledger.sqlite`` beside the library's index. Unlike the
index it cannot be made again for little, so nothing in it is dropped.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mashup._score.ledger.versions import TABLE, open_ledger
from mashup.errors import Problem, printable
from mashup.library.database import Database

_KEEP = """INSERT INTO measured (base, donor, task, name, examples, loss, accuracy, at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (base, donor, task) DO UPDATE SET
    name = excluded.name, examples = excluded.examples, loss = excluded.loss,
    accuracy = excluded.accuracy, at = excluded.at WHERE excluded.examples >= examples"""
_READ = """SELECT donor, task, {value} FROM measured
    WHERE base = ? AND name IS NOT ? AND {value} IS NOT NULL"""


@dataclass(frozen=True)
class Measured:
    """What was measured of a donor on a task.

    Attributes:
        base: key of the base model.
        donor: digest of the checkpoint.
        task: key of the task.
        name: of the task, for people.
        examples: number of them that the numbers are over.
        loss: nats per answer token.
        accuracy: share of examples answered right, 0 to 1.
        at: when, in seconds since 1970.
    """

    base: str
    donor: str
    task: str
    name: str
    examples: int
    loss: float
    accuracy: float
    at: float = field(default_factory=time.time)


class Ledger:
    """The SQLite file of past measurements. Use it as a context manager.

    Attributes:
        path: of the file.
        problem: what the user should know of it: it was damaged, is of another version, or cannot
            be written.
    """

    def __init__(self, root: Path) -> None:
        self._database = Database(root, "ledger.sqlite", open_ledger, (TABLE,))

    @property
    def path(self) -> Path:
        return self._database.path

    @property
    def problem(self) -> Problem | None:
        return self._database.problem

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def keep(self, rows: Iterable[Measured]) -> None:
        """Remember ``rows``; one over fewer examples never replaces one over more.

        A number that is not finite is kept as unknown, a row without any is not kept. Nothing is
        kept when the file is of a newer version or cannot be written.
        """
        if self._database.in_memory:
            return
        told = [_row(one) for one in rows if math.isfinite(one.loss) or math.isfinite(one.accuracy)]

        def write(db: sqlite3.Connection) -> None:
            with db:
                db.executemany(_KEEP, told)

        self._database.run(write)

    def matrix(
        self,
        base: str,
        donors: Sequence[str],
        exclude_task: str | None = None,
        exclude_name: str | None = None,
        value: Literal["loss", "accuracy"] = "loss",
    ) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """``(donors × past tasks)`` of ``value``, NaN where unknown, and the keys of the tasks.

        Tasks on which none of the ``donors`` was measured are left out. ``exclude_task`` is the
        key of the new task; ``exclude_name`` its name, since the same data in other splits have
        another key, and what was measured there may have been measured on rows held out here.
        """
        if value not in ("loss", "accuracy"):
            raise ValueError(f"value is {value!r}, expected 'loss' or 'accuracy'")
        read, name = _READ.format(value=value), exclude_name and printable(exclude_name)
        found = self._database.run(lambda db: db.execute(read, (base, name)).fetchall())
        wanted = set(donors)
        known = {
            (donor, task): number
            for donor, task, number in found
            if donor in wanted and task != exclude_task and isinstance(number, float)
        }  # a row that is damaged is not known
        tasks = tuple(sorted({task for _, task in known}))
        rows = [[known.get((donor, task), math.nan) for task in tasks] for donor in donors]
        return np.array(rows, float).reshape(len(donors), len(tasks)), tasks


def _row(one: Measured) -> tuple[object, ...]:
    numbers = (number if math.isfinite(number) else None for number in (one.loss, one.accuracy))
    name = printable(one.name)
    return (one.base, one.donor, one.task, name, one.examples, *numbers, one.at)
