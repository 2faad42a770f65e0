"""Record: one row of results. Everything that a report shows is derived from records."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mashup.errors import InputError, MashupError, Problem
from mashup.files import read_lines, write_text


@dataclass(frozen=True)
class Record:
    """One measured value.

    Attributes:
        experiment, task, arm: what was run.
        seed: of the run.
        budget: share of the full number of steps, 1.0 for a full run.
        step, seconds, tokens: where on the run's curve; seconds of training alone.
        metric: what was measured (``test_accuracy``, ``score_seconds``, ...).
        value: in the metric's own unit: nats per answer token, shares, seconds, steps.
        low, high: ends of the 95 % interval, None where there is none.
        learning_rate: of the run, where every rate of a grid is told and not the best alone.
        donor: checkpoint that a score is of, or ``base``.
    """

    experiment: str
    task: str
    arm: str
    seed: int
    budget: float
    step: int
    seconds: float
    tokens: int
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    learning_rate: float | None = None
    donor: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Without the fields that few records have."""
        rare = ("learning_rate", "donor")
        return {k: v for k, v in asdict(self).items() if v is not None or k not in rare}


#: The arm of the one record of a task that no run made: what the commonest answer gets right.
COMMONEST = "commonest-answer"
#: Metric of a donor that was not used: share of the held-out prompts that it was trained on.
LEFT_OUT = "left_out"
_INCONSISTENT = (
    *(LookupError, TypeError, ValueError, ArithmeticError, AttributeError),
    *(StopIteration, RecursionError),
)


def commonest_record(experiment: str, task: str, accuracy: float) -> Record:
    """What an answer that never looks at the prompt reaches, as the record that reports read."""
    return Record(experiment, task, COMMONEST, -1, 1.0, 0, 0.0, 0, "test_accuracy", accuracy)


def write_records(path: Path, records: Iterable[Record]) -> None:
    """One JSON object a line, whole or not at all."""
    write_text(path, "".join(json.dumps(record.to_json()) + "\n" for record in records))


def read_records(path: Path) -> tuple[Record, ...]:
    """The records of a ``records.jsonl``.

    Raises:
        InputError: it is not there, or damaged.
    """
    fix = "give the folder of 'mashup loo' or 'compare'; the same command again writes its records"
    try:
        return read_lines(Record, path, fix)
    except InputError as error:
        found = error.problems[0].found
        raise InputError(Problem("cannot read records", str(path), found, fix=fix)) from error


@contextlib.contextmanager
def consistent(folder: Path) -> Iterator[None]:
    """Turn what a report of files that contradict each other raises into one problem.

    Each file is checked on its own when it is read. Together they may still be those of no run:
    an arm without its last step, a donor that the scores do not name.

    Args:
        folder: that the files are in; named in the error.

    Raises:
        InputError: the block raised a lookup, type, value or arithmetic error.
    """
    try:
        yield
    except MashupError:
        raise
    except _INCONSISTENT as error:
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        fix = "give the same 'mashup loo' or 'compare' again, which writes its records anew"
        what, expected = "files do not fit together", "what one command wrote"
        raise InputError(Problem(what, str(folder), found, expected, fix)) from error


def pool_of(name: str) -> str:
    """The arm that an arm is one draw of: ``random`` of ``random-1``, else itself."""
    if re.fullmatch(r"random-\d+", name):
        return "random"
    return "each-single" if name.startswith("single-") else name
