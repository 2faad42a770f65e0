"""Losses of single examples, kept by the content of model and example."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mashup.library.database import Database

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
        " answers BLOB, PRIMARY KEY (model, example)) WITHOUT ROWID",
    )

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, model: str, examples: Sequence[str]) -> dict[str, Loss]:
        """What is known of ``examples`` under ``model``, both by key; what is damaged is not."""
        known: dict[str, Loss] = {}
        for start in range(0, len(examples), _MOST):
            for key, *row in self._rows(model, examples[start : start + _MOST]):
                if one := _loss(*row):
                    known[key] = one
        return known

    def _rows(self, model: str, examples: Sequence[str]) -> list[tuple[Any, ...]]:
        read = (
            "SELECT example.key, loss, correct, seconds, answers FROM loss"
            " JOIN example ON example.id = loss.example"
            " WHERE loss.model = (SELECT id FROM model WHERE key = ?)"
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
                    f"{_ADD} loss SELECT model.id, example.id, ?, ?, ?, ?"
                    " FROM model, example WHERE model.key = ? AND example.key = ?",
                    [(*one, model, key) for key, one in losses.items()],
                )

        self._database.run(write)


def _loss(loss: object, correct: object, seconds: object, answers: object) -> Loss | None:
    """What a row says; None for one that we cannot have written."""
    loss = math.nan if loss is None else loss  # SQLite keeps a number that is none as NULL
    if not isinstance(loss, float) or correct not in (0, 1) or not isinstance(seconds, float):
        return None
    if not isinstance(answers, bytes) or len(answers) % _FLOAT:
        return None
    return Loss(loss, bool(correct), seconds, answers)
