"""Do one job and keep its result."""

from __future__ import annotations

import contextlib
import time

from mashup.files import only_one
from mashup.loo.job import Job
from mashup.loo.work.initialise import initialise
from mashup.loo.work.rank import rank
from mashup.loo.work.run import run
from mashup.loo.work.worker import Worker
from mashup.processes import is_first

_WORK = {"train": run, "score": rank, "init": initialise}


def do(worker: Worker, job: Job) -> None:
    """Do ``job`` unless it is done; what it needs is.

    Raises:
        InputError: as the steps do.
    """
    if worker.store.is_done(job):
        return
    folder = worker.store.folder(job.key)
    with only_one(folder) if is_first() else contextlib.nullcontext():
        begin = time.time()
        worker.store.begin(job, begin)
        facts = _WORK[job.kind](worker, job)
        worker.store.finish(job, facts | {"took": time.time() - begin})
