"""All jobs in this process, one after the other; the base stays in memory.

Under ``accelerate launch`` every job is done by all its processes together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mashup.errors import MashupError, Problem
from mashup.loo.failures import Failures
from mashup.loo.job import Job
from mashup.loo.work import do
from mashup.loo.work.worker import Worker
from mashup.processes import is_first, wait


def run_local(worker: Worker, jobs: Iterable[Job], done: Callable[[Job], None]) -> Failures:
    """Do the jobs in their order; what cannot be done is told at the end, the others go on."""
    failures = Failures()
    for job in jobs:
        if failures.blocks(job):
            continue
        worker.progress.begin(job.name)
        problems = _attempt(worker, job)
        if problems is None:
            done(job)
        else:
            failures.add(job, problems)
    return failures


def _attempt(worker: Worker, job: Job) -> Iterable[Problem] | None:
    """None when done, else why not; of several processes all train, the rest is the first's."""
    problems: Iterable[Problem] | None = None
    if is_first() or job.kind == "train":
        try:
            do(worker, job)
        except MashupError as error:
            problems = error.problems
    wait()
    return problems if is_first() or worker.store.is_done(job) else ()
