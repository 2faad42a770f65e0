"""A race on disk: ``race.json`` with every second, and the dev values of its lanes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from mashup._race.plan import DevPoint
from mashup._train.record import Run
from mashup.errors import InputError, Problem
from mashup.evaluate.evaluate import Evaluation
from mashup.files import digest_of
from mashup.outputs import append_text, make_folder, refuse_existing, to_json, write_text
from mashup.state import read_lines, read_state

RACE = "race.json"
WORK = ".race"  # lanes, starts and dev values; gone when the race is over


@dataclass(frozen=True)
class Race:
    """A finished race, on disk.

    Attributes:
        path: a trained run, as :func:`mashup.train` leaves it, with ``race.json``.
        run: that run.
        record: what ``race.json`` holds: starts, lanes, verdicts, steps, seconds, sentence.
    """

    path: Path
    run: Run
    record: dict[str, Any]

    @property
    def sentence(self) -> str:
        """Which lane won, and how sure that is."""
        return str(self.record["sentence"])

    @classmethod
    def open(cls, path: str | Path) -> Race:
        """A race that was finished before.

        Raises:
            InputError: not a finished race.
        """
        path = Path(path)
        record = read_state(_State, path / RACE, _fix(path)).model_dump()
        if record["status"] != "finished":
            fix = "give the same command again to finish it"
            raise InputError(Problem("race is not finished", str(path), fix=fix))
        return cls(path, Run.open(path), record)


class _State(BaseModel, extra="allow"):
    """``race.json``."""

    version: Literal[1] = 1
    status: Literal["running", "finished"]
    digest: str
    seconds: dict[str, float] = {}
    steps: dict[str, int] = {}
    train_seconds: dict[str, float] = {}


class _DevLine(BaseModel):
    """A line of a lane's dev values."""

    step: int
    losses: list[float | None]
    tokens: list[int]


def _fix(path: Path) -> str:
    return f"remove {path} and give the same command again"


@dataclass
class Book:
    """``race.json`` while the race runs: what was done, and every second of it.

    Attributes:
        path: the file.
        values: its content.
        begun: when this go began (``time.perf_counter``).
        before: seconds of earlier goes.
    """

    path: Path
    values: dict[str, Any]
    begun: float
    before: float = 0.0
    _running: tuple[str, float] | None = None

    @classmethod
    def open(cls, output: Path, config: Mapping[str, Any], begun: float) -> Book:
        """Begin a race or go on with one.

        Raises:
            InputError: ``output`` holds another race, or something else.
        """
        path, digest = output / RACE, digest_of(config)
        if not path.exists():
            refuse_existing(output)
            make_folder(output)
            values: dict[str, Any] = {"version": 1, "status": "running", "digest": digest}
            values |= {"config": dict(config), "seconds": {}, "steps": {}, "train_seconds": {}}
            book = cls(path, values, begun)
            book.save()
            return book
        values = read_state(_State, path, _fix(output)).model_dump()
        if values["digest"] != digest:
            old, new = values.get("config", {}), json.loads(to_json(config))
            keys = [key for key in new if old.get(key) != new[key]]
            found = f"a race with other {', '.join(keys) or 'settings'}"
            fix = "choose another `output`, or give the settings of that race"
            raise InputError(Problem("output exists already", str(output), found, "this race", fix))
        return cls(path, values, begun, sum(values["seconds"].values()))

    @contextmanager
    def charged(self, name: str) -> Iterator[None]:
        """Charge the seconds of the block to ``name``."""
        self._running = (name, time.perf_counter())
        try:
            yield
        finally:
            self.save()
            self._running = None

    def save(self, **values: Any) -> None:
        """Write the file with the seconds so far; those charged to nothing else are ``rest``."""
        now, seconds = time.perf_counter(), self.values["seconds"]
        if self._running:
            name, since = self._running
            seconds[name] = seconds.get(name, 0.0) + now - since
            self._running = (name, now)
        others = sum(value for name, value in seconds.items() if name != "rest")
        total = self.before + now - self.begun
        seconds["rest"] = max(0.0, total - others)
        self.values |= values | {"total_seconds": total}
        write_text(self.path, to_json(self.values))


def write_point(path: Path, step: int, dev: Evaluation) -> None:
    losses = [one if math.isfinite(one) else None for one in dev.losses.tolist()]
    line = json.dumps({"step": step, "losses": losses, "tokens": dev.tokens.tolist()})
    append_text(path, line + "\n")


def drop_cut_line(path: Path) -> None:
    """Remove a last line that a kill cut off, so that the next one begins a line."""
    content = path.read_bytes() if path.exists() else b""
    if content and not content.endswith(b"\n"):
        path.write_bytes(content[: content.rfind(b"\n") + 1])


def read_points(path: Path, rung: int) -> list[DevPoint]:
    """Dev values up to a rung; of a step that was measured twice, the later ones."""
    if not path.exists():
        return []
    lines = read_lines(_DevLine, path, _fix(path.parents[2]), may_be_cut=True)
    latest = {one.step: one for one in lines if one.step <= rung}
    return [
        DevPoint(one.step, np.array(one.losses, dtype=np.float64), np.array(one.tokens))
        for _, one in sorted(latest.items())
    ]
