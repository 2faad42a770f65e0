"""Resume points: what a run that was stopped goes on from.

A point is a folder ``.resume/checkpoint-N`` that transformers' Trainer writes. Its ``clock.txt`` is
written last and removed first, and names the other files with their sizes. A point counts only
when all of them are there in these sizes.
"""

from __future__ import annotations

import contextlib
import pickle
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel
from safetensors import SafetensorError
from transformers import TrainerState

from mashup.checkpoint.history import TRAINER_STATE, step_of
from mashup.errors import InputError, MashupError, Problem
from mashup.files import read_text
from mashup.outputs import sync, to_json, write_text
from mashup.processes import is_first
from mashup.state import read_state

RESUME = ".resume"
CLOCK = "clock.txt"
_OF_OTHERS = "rng_state_*"  # written by each of several processes when it comes there
_DAMAGE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError),
    *(RuntimeError, pickle.UnpicklingError, SafetensorError),
)


class Mark(BaseModel):
    """What ``clock.txt`` holds: seconds so far, and the bytes of the point's files."""

    version: Literal[2] = 2
    train_seconds: float
    total_seconds: float
    files: dict[str, int] = {}


@dataclass
class Clock:
    """Seconds of a run, over all the times that it was started.

    Attributes:
        train: of training steps.
        before: of everything, up to the resume point that this go started from.
    """

    train: float = 0.0
    before: float = 0.0
    _start: float = field(default_factory=time.perf_counter)

    @property
    def total(self) -> float:
        """All seconds of the run so far, without those that a kill threw away."""
        return self.before + time.perf_counter() - self._start

    def save(self, point: Path) -> None:
        """Mark a new resume point as complete, then remove the earlier ones."""
        sync(point)
        others = {*point.rglob(_OF_OTHERS), point / CLOCK}
        files = [path for path in point.rglob("*") if path.is_file() and path not in others]
        sizes = {str(path.relative_to(point)): path.stat().st_size for path in files}
        mark = Mark(train_seconds=self.train, total_seconds=self.total, files=sizes)
        write_text(point / CLOCK, to_json(mark.model_dump()))
        for other in point.parent.glob("checkpoint-*"):
            if other != point:
                _remove(other)

    def go_on(self, point: Path) -> None:
        """Go on from a resume point that counts."""
        mark = _read_mark(point)
        self.train, self.before = mark.train_seconds, mark.total_seconds


def last_resume_point(folder: Path) -> Path | None:
    """The last resume point that counts; those that do not are removed."""
    complete = []
    for point in folder.glob("checkpoint-*"):
        if _counts(point):
            complete.append(point)
        elif is_first():
            _remove(point)
    return max(complete, key=lambda point: step_of(point) or 0, default=None)


def check_point(point: Path) -> None:
    """Refuse a point whose state of the Trainer is damaged.

    Raises:
        InputError: it is.
    """
    with damaged_point(point):
        step = TrainerState.load_from_json(str(point / TRAINER_STATE)).global_step
        if step != step_of(point):
            raise ValueError(f"{TRAINER_STATE} says step {step!r}")


@contextlib.contextmanager
def damaged_point(point: str | Path) -> Iterator[None]:
    """Turn what reading a damaged resume point raises into one problem."""
    try:
        yield
    except (MashupError, torch.OutOfMemoryError):
        raise
    except _DAMAGE as error:
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        fix = "remove that folder; the run then starts again from an earlier point or from step 0"
        problem = Problem("damaged resume point", str(point), found, "a resume point", fix)
        raise InputError(problem) from error


def _counts(point: Path) -> bool:
    try:
        files = _read_mark(point).files
        return all((point / name).stat().st_size == size for name, size in files.items())
    except (InputError, OSError, ValueError):
        return False


def _read_mark(point: Path) -> Mark:
    """Read ``clock.txt``. Before version 2 it held one or two numbers and named no files."""
    path = point / CLOCK
    text = read_text(path)
    if text.lstrip().startswith("{"):
        return read_state(Mark, path, "remove that folder")
    train, *total = map(float, text.split())
    return Mark(train_seconds=train, total_seconds=max([train, *total]))


def _remove(point: Path) -> None:
    """Remove a point. Its mark goes first, so that a kill leaves no point that counts."""
    (point / CLOCK).unlink(missing_ok=True)
    shutil.rmtree(point, ignore_errors=True)
