"""What a report is made of: the files of a comparison, read and sorted by run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from mashup.files import read_state
from mashup.results.comparison import read_about
from mashup.results.curve import Point
from mashup.results.records import Record, read_records

_CURVE = ("dev_loss", "dev_accuracy", "test_loss", "test_accuracy")


class _Score(BaseModel, extra="allow"):
    """What a report reads of a row of ``scores.json``."""

    name: str
    digest: str
    loss: float
    accuracy: float
    difference: float
    standard_error: float | None = None


_Scores = Annotated[list[_Score], Field(min_length=1)]


@dataclass(frozen=True)
class Material:
    """The three files.

    Attributes:
        records: ``records.jsonl``.
        scores: ``scores.json``: one row a checkpoint, best first, the base last.
        about: ``comparison.json``: what was compared, with which settings.
    """

    records: tuple[Record, ...]
    scores: tuple[dict[str, Any], ...]
    about: dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """One run of an arm.

    Attributes:
        points: its curve, from step 0; of an untrained arm only that.
        values: everything else that was measured, by metric; None is never.
    """

    arm: str
    seed: int
    budget: float
    points: tuple[Point, ...]
    values: Mapping[str, float | None]

    @property
    def last(self) -> Point:
        return self.points[-1]

    @property
    def accuracy(self) -> float:
        """On the test rows, at the end."""
        return _read(self.last.test_accuracy)

    @property
    def loss(self) -> float:
        """On the test rows, at the end, in nats an answer token."""
        return _read(self.last.test_loss)

    @property
    def trained(self) -> bool:
        return self.last.step > 0

    @property
    def overhead(self) -> float:
        """Seconds before the first step."""
        return self.seconds("total") - self.seconds("train")

    def seconds(self, cost: str) -> float:
        return self.values.get(f"{cost}_seconds") or 0.0


def _read(value: float | None) -> float:
    return math.nan if value is None else value


def read_material(folder: Path) -> Material:
    """Read the three files of a comparison.

    Raises:
        InputError: one is missing, or not what it should be.
    """
    fix = "give the same 'mashup compare' again: finished runs are kept"
    about = read_about(folder)
    rows: list[_Score] = read_state(_Scores, folder / "scores.json", fix)
    records = read_records(folder / "records.jsonl")
    return Material(records, tuple(row.model_dump() for row in rows), about)


def measured(records: Iterable[Record]) -> tuple[Measured, ...]:
    """The runs behind ``records``, in their order; differences between arms have no run."""
    own = [record for record in records if record.seed >= 0]
    order = list(dict.fromkeys(_key(record) for record in own))
    groups = groupby(sorted(own, key=lambda r: order.index(_key(r))), key=_key)
    return tuple(_measured(*key, list(group)) for key, group in groups)


def _key(record: Record) -> tuple[str, int, float]:
    return record.arm, record.seed, record.budget


def _measured(arm: str, seed: int, budget: float, records: list[Record]) -> Measured:
    at: dict[int, dict[str, Any]] = {}
    values: dict[str, float | None] = {}
    for record in records:
        if record.metric in _CURVE:
            place = at.setdefault(record.step, {"seconds": record.seconds, "tokens": record.tokens})
            place[record.metric] = record.value
        else:
            values[record.metric] = record.value
    points = tuple(Point(step=step, **at[step]) for step in sorted(at))
    return Measured(arm, seed, budget, points, values)
