"""Do one job and keep its result."""

from __future__ import annotations

import time

from mashup.loo.job import Job
from mashup.loo.work.initialise import initialise
from mashup.loo.work.rank import rank
from mashup.loo.work.run import run
from mashup.loo.work.worker import Worker

_WORK = {"train": run, "score": rank, "init": initialise}


def do(worker: Worker, job: Job) -> None:
    """Do ``job`` unless it is done; what it needs is.

    Raises:
        InputError: as the steps do.
    """
    if worker.store.is_done(job):
        return
    begin = time.time()
    worker.store.begin(job, begin)
    facts = _WORK[job.kind](worker, job)
    worker.store.finish(job, facts | {"took": time.time() - begin})
