"""Records: the rows of results that everything in a report is derived from."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mashup.errors import InputError, MashupError, Problem
from mashup.outputs import write_text
from mashup.state import NEWER, read_lines, to_lines


@dataclass(frozen=True)
class Record:
    """One measured value.

    Attributes:
        experiment, task, arm: what was run.
        seed: of the run; -1 for a value over all seeds.
        budget: share of the full number of steps; 1.0 for a full run.
        step, seconds, tokens: the point on the run's curve; seconds of training only.
        metric: what was measured (``test_accuracy``, ``score_seconds``, ...).
        value: in the unit of the metric: nats per answer token, share, seconds, steps.
        low, high: ends of the 95 % interval, None without one.
        learning_rate: of the run, in records of every rate of a grid.
        donor: the source checkpoint that was scored, or ``base``.
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
        """As a JSON object; rare fields only where they have a value."""
        rare = ("learning_rate", "donor")
        return {k: v for k, v in asdict(self).items() if v is not None or k not in rare}


#: Arm of the accuracy of always giving the commonest training answer. No run made it.
COMMONEST = "commonest-answer"
#: Metric of a source that was not used: share of the held-out prompts that it was trained on.
LEFT_OUT = "left_out"
#: Metric of a source that was not used since the target is its own task: share of the target's
#: training prompts that it was trained on; 1 where its folder names this task.
OWN_TASK = "left_out_own_task"
#: What the metrics of a difference end with that is taken to scratch's run of all steps.
OVER_FULL = "_over_full_scratch"
#: Metric: number of training examples of a target.
LABELS = "train_examples"
#: Metric of an arm: accuracy on the test rows, mean over seeds, where a task has several sizes.
ACCURACY = "test_accuracy_mean"
#: Metric of an arm: labels that scratch needs for its accuracy. No value: more than the largest
#: number that was measured; 0: fewer than the smallest.
NEEDED = "scratch_labels"
#: Task of the mean over all tasks that have several sizes: ``*@64`` at 64 labels.
OVER_TASKS = "*"
_INCONSISTENT = (
    *(LookupError, TypeError, ValueError, ArithmeticError, AttributeError),
    *(StopIteration, RecursionError),
)


def commonest_record(experiment: str, task: str, accuracy: float) -> Record:
    """The record of the accuracy of always giving the commonest training answer."""
    return Record(experiment, task, COMMONEST, -1, 1.0, 0, 0.0, 0, "test_accuracy", accuracy)


def labels_record(experiment: str, task: str, count: int) -> Record:
    """The record of the number of training examples of a target."""
    return Record(experiment, task, "task", -1, 1.0, 0, 0.0, 0, LABELS, count)


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write one JSON object per line, atomically."""
    write_text(path, to_lines(record.to_json() for record in records))


def read_records(path: Path) -> tuple[Record, ...]:
    """The records of a ``records.jsonl``.

    Raises:
        InputError: the file is missing or damaged.
    """
    fix = "give the folder of 'mashup loo' or 'compare'; the same command again writes its records"
    try:
        return read_lines(Record, path, fix)
    except InputError as error:
        if error.problems[0].code == NEWER:
            raise
        found = error.problems[0].found
        raise InputError(Problem("cannot read records", str(path), found, fix=fix)) from error


@contextlib.contextmanager
def consistent(folder: Path) -> Iterator[None]:
    """Turn an error about files that contradict each other into one problem.

    Each file is checked alone when it is read. Two files can still contradict each other: an arm
    lacks its last step, or the scores do not name a source.

    Args:
        folder: of the files; named in the problem.

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


def data_of(task: str) -> str:
    """The task whose rows ``task`` has: ``mrpc`` for ``mrpc@16``, else the name itself.

    ``NAME@SIZE`` is the task NAME with another number of training rows ("labels"): a target of
    its own, with the same dev and test rows.
    """
    return task.partition("@")[0] or task


def pool_of(name: str) -> str:
    """The arm that ``name`` is one draw of: ``random`` for ``random-1``, else ``name``."""
    if re.fullmatch(r"(random|blind)-\d+", name):
        return name.rpartition("-")[0]
    return "each-single" if name.startswith("single-") else name
