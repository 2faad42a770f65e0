"""Results on disk: one folder a job, called by its key; a result is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, FiniteFloat

from mashup.errors import InputError
from mashup.files import read_state, to_json, write_text
from mashup.loo.job import Job

RESULT = "result.json"
_RUNNING = "running.json"


def _within(path: str) -> str:
    """A path that does not lead out of the store."""
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ValueError(f"{path!r} leads out of the folder of jobs")
    return path


_Inner = Annotated[str, AfterValidator(_within)]


class _Facts(BaseModel, extra="allow"):
    """What every result has; what else a job notes is kept as it is."""

    took: FiniteFloat


class _Trained(_Facts):
    kind: Literal["train"]
    diverged: Literal[False]
    path: _Inner
    dev_loss: FiniteFloat
    train_seconds: FiniteFloat
    check_seconds: FiniteFloat = 0.0


class _Diverged(_Facts):
    kind: Literal["train"]
    diverged: Literal[True]
    train_seconds: FiniteFloat


class _Ranked(_Facts):
    kind: Literal["score"]
    chosen: list[str]
    ranking: list[dict[str, Any]]
    base_loss: FiniteFloat
    base_accuracy: FiniteFloat
    seconds: FiniteFloat


class _Merged(_Facts):
    kind: Literal["init"]
    path: _Inner
    parents: list[str]
    seconds: FiniteFloat


_Result = _Trained | _Diverged | _Ranked | _Merged


class _Kept(BaseModel, extra="allow"):
    """Whether a result has its weights."""

    weights: bool = True


class _Running(BaseModel):
    """Since when a job is being done."""

    since: FiniteFloat


@dataclass(frozen=True)
class Store:
    """A folder of jobs, shared by all experiments that name it."""

    root: Path

    def folder(self, key: str) -> Path:
        """Where a job puts what it makes."""
        return self.root / key

    def is_done(self, job: Job) -> bool:
        """Whether its result is there, with the weights if a later job reads them."""
        path = self.folder(job.key) / RESULT
        if not path.exists():
            return False
        return not job.keeps_weights or read_state(_Kept, path, self._fix(job.key)).weights

    def result(self, key: str) -> dict[str, Any]:
        """The facts that a job left.

        Raises:
            InputError: it was never done, or the file is damaged.
        """
        known: _Facts = read_state(_Result, self.folder(key) / RESULT, self._fix(key))  # type: ignore[arg-type]
        return known.model_dump()

    def _fix(self, key: str) -> str:
        return f"remove {self.folder(key)}: the same command does this job again"

    def finish(self, job: Job, facts: dict[str, Any]) -> None:
        """Keep the result of a job."""
        folder = self.folder(job.key)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / RESULT, to_json(facts | {"kind": job.kind, "name": job.name}))
        (folder / _RUNNING).unlink(missing_ok=True)

    def begin(self, job: Job, now: float) -> None:
        """Note that a job is being done, for those who watch."""
        folder = self.folder(job.key)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / _RUNNING, to_json({"process": os.getpid(), "since": now}))

    def begun(self) -> set[str]:
        """Keys of all jobs that were ever begun, done or not."""
        try:
            return set(os.listdir(self.root))
        except FileNotFoundError:
            return set()

    def running_since(self, job: Job) -> float | None:
        """When a job was begun that is not done, None when it was not; it may have been killed."""
        path = self.folder(job.key) / _RUNNING
        if not path.exists():
            return None
        with contextlib.suppress(InputError):  # another process has ended it just now
            return read_state(_Running, path, self._fix(job.key)).since
        return None


def best_of(runs: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The facts of the run with the least dev loss; None when all diverged."""
    healthy = [run for run in runs if not run["diverged"]]
    return min(healthy, key=lambda run: run["dev_loss"], default=None)
