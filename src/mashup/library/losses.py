"""Losses of single examples, kept by the content of model and example."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_MOST = 500  # values of one SQL statement


class Loss(NamedTuple):
    """What one forward pass of one example gave.

    Attributes:
        loss: nats, summed over the answer's tokens; not finite when the model diverged.
        correct: whether every answer token is the most likely one.
        seconds: the example's share of the time of its batch.
    """

    loss: float
    correct: bool
    seconds: float


class Losses:
    """The tables of an :class:`Index` that hold losses."""

    TABLES = (
        "model (id INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL)",
        "example (id INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL)",
        "loss (model INTEGER, example INTEGER, loss REAL, correct INTEGER, seconds REAL,"
        " PRIMARY KEY (model, example)) WITHOUT ROWID",
    )

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def get(self, model: str, examples: Sequence[str]) -> dict[str, Loss]:
        """What is known of ``examples`` under ``model``, both by key."""
        known: dict[str, Loss] = {}
        for start in range(0, len(examples), _MOST):
            some = examples[start : start + _MOST]
            rows = self._db.execute(
                "SELECT example.key, loss, correct, seconds FROM loss"
                " JOIN example ON example.id = loss.example"
                " WHERE loss.model = (SELECT id FROM model WHERE key = ?)"
                f" AND example.key IN ({','.join('?' * len(some))})",
                (model, *some),
            )
            for key, loss, correct, seconds in rows:  # SQLite keeps a number that is none as NULL
                known[key] = Loss(math.nan if loss is None else loss, bool(correct), seconds)
        return known

    def keep(self, model: str, losses: Mapping[str, Loss]) -> None:
        """Add what is not known yet; what another process has written meanwhile stays."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._add("model", [model])
            self._add("example", list(losses))
            self._db.executemany(
                "INSERT OR IGNORE INTO loss SELECT model.id, example.id, ?, ?, ?"
                " FROM model, example WHERE model.key = ? AND example.key = ?",
                [(*one, model, key) for key, one in losses.items()],
            )

    def _add(self, table: str, keys: Sequence[str]) -> None:
        rows = [(key,) for key in keys]
        self._db.executemany(f"INSERT OR IGNORE INTO {table} (key) VALUES (?)", rows)
