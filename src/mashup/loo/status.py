"""What is done, what is being done and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from mashup.loo.job import Job
from mashup.loo.plan import Plan
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
        seconds: that are left, one job after the other.
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


def status_of(plan: Plan, store: Store, work: Mapping[str, float], rate: float) -> Status:
    """How far an experiment is.

    Args:
        plan: its jobs.
        store: their results.
        work: key to forward tokens.
        rate: seconds a forward token.
    """
    now = time.time()
    kinds: dict[str, list[Job]] = {}
    for job in plan.jobs.values():
        kinds.setdefault(job.kind, []).append(job)
    since = {key: store.running_since(job) for key, job in plan.jobs.items()}
    running = [(job.name, now - at) for key, job in plan.jobs.items()
               if (at := since[key]) is not None]  # fmt: skip
    rows = tuple(_row(kind, jobs, store, since, work, rate) for kind, jobs in kinds.items())
    return Status(rows, tuple(running), sum(row.seconds for row in rows))


def _row(
    kind: str,
    jobs: list[Job],
    store: Store,
    since: Mapping[str, float | None],
    work: Mapping[str, float],
    rate: float,
) -> Row:
    open_jobs = [job for job in jobs if not store.is_done(job)]
    running = sum(since[job.key] is not None for job in open_jobs)
    seconds = sum(work[job.key] for job in open_jobs) * rate
    return Row(kind, len(jobs) - len(open_jobs), running, len(open_jobs) - running, seconds)
