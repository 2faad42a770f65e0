"""All jobs in this process, one after the other; the base stays in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mashup.errors import MashupError
from mashup.loo.failures import Failures
from mashup.loo.job import Job
from mashup.loo.work import do
from mashup.loo.work.worker import Worker


def run_local(worker: Worker, jobs: Iterable[Job], done: Callable[[Job], None]) -> Failures:
    """Do the jobs in their order; what cannot be done is told at the end, the others go on."""
    failures = Failures()
    for job in jobs:
        if failures.blocks(job):
            continue
        try:
            do(worker, job)
        except MashupError as error:
            failures.add(job, error.problems)
        else:
            done(job)
    return failures
