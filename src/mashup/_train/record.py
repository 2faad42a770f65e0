"""A run on disk, and whether a requested run is finished already.

Nothing here loads torch: a finished run is recognised by its files alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from mashup.errors import InputError, Problem
from mashup.files import digest_of, folder_stamp
from mashup.results.curve import CURVE, Point, check_curve, read_curve
from mashup.settings import TrainSettings
from mashup.state import read_state
from mashup.task import Task

RUN = "run.json"
FINISHED = "finished earlier: nothing was trained"


class Config(BaseModel, extra="allow"):
    """What decides a run, as ``run.json`` has it."""

    base: dict[str, Any]
    task: dict[str, Any]
    settings: dict[str, Any]


class Started(BaseModel, extra="allow"):
    """``run.json`` from the start of a run on."""

    version: Literal[1] = 1
    status: Literal["running", "finished"]
    digest: str
    config: Config
    asked: str = ""


class Finished(Started):
    """``run.json`` at the end."""

    steps: int
    start_check: dict[str, Any] | None
    train_seconds: float
    trainable_parameters: int


def read_started(output: Path) -> dict[str, Any]:
    """The content of ``run.json`` of a run that was started, finished or not.

    Raises:
        InputError: missing or damaged.
    """
    return _read(output, Started)


def _read(output: Path, kind: type[Started]) -> dict[str, Any]:
    fix = f"remove {output} and give the same command again"
    return read_state(kind, output / RUN, fix).model_dump()


@dataclass(frozen=True)
class Run:
    """A finished training run, on disk.

    Attributes:
        path: a PEFT adapter folder, or a full checkpoint, that ``scan`` finds, with ``run.json``
            and ``curve.jsonl``.
        record: what ``run.json`` holds: settings, digests, seconds, metrics.
        curve: evaluations from step 0 to the end.
    """

    path: Path
    record: dict[str, Any]
    curve: tuple[Point, ...]

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """A run that was finished before.

        Raises:
            InputError: not a finished run.
        """
        path = Path(path)
        if read_started(path)["status"] != "finished":
            fix = "give the same training command again to finish it"
            raise InputError(Problem("run is not finished", str(path), fix=fix))
        record, curve = _read(path, Finished), read_curve(path / CURVE)
        if not curve or curve[-1].step != record["steps"]:
            check_curve(path / CURVE, curve[-1:], [record["steps"]])
        return cls(path, record, curve)

    @property
    def last(self) -> Point:
        return self.curve[-1]

    @property
    def kept(self) -> Point:
        """The point whose weights are in the folder: the last, or with ``keep="best"`` the best."""
        step = self.record.get("best_step", self.last.step)
        return next(point for point in self.curve if point.step == step)


def asked_of(base: str, loaded: str, task: Task, init: Path | None, settings: TrainSettings) -> str:
    """Digest of a requested run, from the stamps of files instead of their contents.

    Args:
        base: stamp of the base's folder (:func:`mashup.files.folder_stamp`).
        loaded: how it is loaded, apart from its precision: attention, quantisation.
        task, init, settings: of the run.

    Returns:
        "" where files have no stamp: a base from the Hub, or files that changed just now.
    """
    start = folder_stamp(init) if init else "scratch"
    if not base or not start:
        return ""
    return digest_of(base, loaded, task.digest, start, settings.model_dump())


def finished_before(output: Path, asked: str, dtype: str = "auto") -> Run | None:
    """The finished run in ``output``, if it is the requested one.

    None is no proof of another run: copying or touching files changes their stamps.

    Args:
        output: folder of the run.
        asked: as :func:`asked_of` gives it.
        dtype: requested precision of the base.
    """
    try:
        record = read_started(output)
    except InputError:  # none, or damaged: the caller reports it
        return None
    computes = str(record["config"]["base"].get("dtype"))
    same = asked and record["status"] == "finished" and record["asked"] == asked
    return Run.open(output) if same and dtype in ("auto", computes[len("torch.") :]) else None
