"""The ledger of a library: what was ever measured of each checkpoint on each task.

One SQLite file with a write-ahead log, ``ledger.sqlite`` beside the library's index. Unlike the
index it cannot be made again for little, so nothing in it is dropped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mashup.library.index import place
from mashup.score.ledger.versions import open_ledger

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
        problem: what the user should be told of it: it was damaged, or of another version.
    """

    def __init__(self, root: Path) -> None:
        self.path = place(root) / "ledger.sqlite"
        self._db, self.problem = open_ledger(self.path)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        if self._db:
            self._db.close()

    def keep(self, rows: Iterable[Measured]) -> None:
        """Remember ``rows``; one over fewer examples never replaces one over more.

        A number that is not finite is kept as unknown, a row without any is not kept. Nothing is
        kept when the file is of a newer version.
        """
        told = [_row(one) for one in rows if math.isfinite(one.loss) or math.isfinite(one.accuracy)]
        if self._db:
            with self._db:
                self._db.executemany(_KEEP, told)

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
        read = _READ.format(value=value)
        found = self._db.execute(read, (base, exclude_name)).fetchall() if self._db else ()
        wanted = set(donors)
        known = {(d, t): x for d, t, x in found if d in wanted and t != exclude_task}
        tasks = tuple(sorted({task for _, task in known}))
        rows = [[known.get((donor, task), math.nan) for task in tasks] for donor in donors]
        return np.array(rows, float).reshape(len(donors), len(tasks)), tasks


def _row(one: Measured) -> tuple[object, ...]:
    numbers = (number if math.isfinite(number) else None for number in (one.loss, one.accuracy))
    return (one.base, one.donor, one.task, one.name, one.examples, *numbers, one.at)
