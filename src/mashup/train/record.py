"""A run on disk: what it leaves, and whether the run that is asked for is there already.

Nothing here loads torch: a finished run is known by its files alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mashup.errors import InputError, Problem
from mashup.files import digest_of, folder_stamp, read_json
from mashup.results.curve import CURVE, Point, read_curve
from mashup.settings import TrainSettings
from mashup.task import Task

RUN = "run.json"
FINISHED = "finished earlier: nothing was trained"


@dataclass(frozen=True)
class Run:
    """A finished training run, on disk.

    Attributes:
        path: a PEFT adapter folder, or a whole model, that ``scan`` finds, with ``run.json``
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
        record = read_json(Path(path) / RUN)
        if record.get("status") != "finished":
            fix = "give the same training command again to finish it"
            raise InputError(Problem("run is not finished", str(path), fix=fix))
        return cls(Path(path), record, read_curve(Path(path) / CURVE))

    @property
    def last(self) -> Point:
        return self.curve[-1]

    @property
    def kept(self) -> Point:
        """The point whose weights are in the folder: the last, or with ``keep="best"`` the best."""
        step = self.record.get("best_step", self.last.step)
        return next(point for point in self.curve if point.step == step)


def asked_of(base: str, loaded: str, task: Task, init: Path | None, settings: TrainSettings) -> str:
    """Digest of what is asked of a run, by the stamps of files instead of their contents.

    Args:
        base: stamp of the base's folder (:func:`mashup.files.folder_stamp`).
        loaded: how it is loaded, beside its precision: attention, quantisation.
        task, init, settings: of the run.

    Returns:
        "" where files have no stamp: a base from the Hub, or files that changed just now.
    """
    start = folder_stamp(init) if init else "scratch"
    if not base or not start:
        return ""
    return digest_of(base, loaded, task.digest, start, settings.model_dump())


def finished_before(output: Path, asked: str, dtype: str = "auto") -> Run | None:
    """The finished run in ``output``, if it is the one that is asked for.

    None says nothing: the run may be the same all the same, when files were copied or touched.

    Args:
        output: folder of the run.
        asked: as :func:`asked_of` gives it.
        dtype: precision of the base that is asked for.
    """
    try:
        record = read_json(output / RUN)
        computes = record["config"]["base"]["dtype"]
        same = asked and record["status"] == "finished" and record["asked"] == asked
        return Run.open(output) if same and dtype in ("auto", computes[len("torch.") :]) else None
    except (InputError, KeyError, TypeError):  # none, or damaged: told by whoever goes on
        return None
