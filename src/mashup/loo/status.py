"""What is done, what is being done and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from mashup.loo.graph import Plan
from mashup.loo.store import Store


@dataclass(frozen=True)
class Row:
    """Jobs of one kind and target."""

    kind: str
    done: int
    running: int
    left: int
    seconds: float


@dataclass(frozen=True)
class Status:
    """Of a whole experiment.

    Attributes:
        rows: one a kind of job.
        running: names of jobs that were begun and are not done, with the seconds since then;
            a job of a process that was killed stays there until it is begun again.
        seconds: that are left at the pace of the jobs that were done while it was asked, which
            knows how many run at once; before the first of them an estimate.
    """

    rows: tuple[Row, ...]
    running: tuple[tuple[str, float], ...]
    seconds: float

    @property
    def done(self) -> int:
        return sum(row.done for row in self.rows)

    @property
    def total(self) -> int:
        return sum(row.done + row.running + row.left for row in self.rows)


@dataclass
class Tally:
    """How far an experiment is, asked again and again.

    A job that is done stays done, so only those that were open are looked at again, and of these
    only those that anybody has begun: all others cost one listing of the store's folder. What
    other processes do meanwhile is seen, since nothing is remembered of open jobs.

    Attributes:
        plan: its jobs.
        store: their results.
        work: key to forward tokens.
        rate: seconds a forward token of one job, before any was seen to be done.
    """

    plan: Plan
    store: Store
    work: Mapping[str, float]
    rate: float
    _done: set[str] = field(default_factory=set)
    _first: tuple[float, set[str]] | None = None

    def status(self) -> Status:
        """As it is now."""
        since = self._look()
        pace = self._pace(len(since))
        running = [(self.plan.jobs[key].name, time.time() - at) for key, at in since.items()]
        kinds: dict[str, list[str]] = {}
        for key, job in self.plan.jobs.items():
            kinds.setdefault(job.kind, []).append(key)
        rows = tuple(self._row(kind, keys, since, pace) for kind, keys in kinds.items())
        return Status(rows, tuple(running), sum(row.seconds for row in rows))

    def _look(self) -> dict[str, float]:
        """Note what is done by now; when the jobs were begun that are not."""
        begun = self.store.begun()
        since = {}
        for key, job in self.plan.jobs.items():
            if key in self._done or key not in begun:
                continue
            at = self.store.running_since(job)  # before the result: a job may end in between
            if self.store.is_done(job):
                self._done.add(key)
            elif at is not None:
                since[key] = at
        return since

    def _pace(self, running: int) -> float:
        """Seconds a forward token at which the whole experiment goes on."""
        if self._first is None:
            self._first = time.time(), set(self._done)
        begin, before = self._first
        tokens = sum(self.work[key] for key in self._done - before)
        return (time.time() - begin) / tokens if tokens else self.rate / max(1, running)

    def _row(self, kind: str, keys: list[str], since: Mapping[str, float], pace: float) -> Row:
        left = [key for key in keys if key not in self._done]
        running = sum(key in since for key in left)
        seconds = sum(self.work[key] for key in left) * pace
        return Row(kind, len(keys) - len(left), running, len(left) - running, seconds)
