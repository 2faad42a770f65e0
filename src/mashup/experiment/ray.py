"""Jobs as tasks of Ray: many processes, GPUs or machines that share the folder of results.

Ray starts a job when those that it needs are done, and starts it again elsewhere when its
process dies; the job then goes on from the resume points of its training.
(https://docs.ray.io/en/latest/ray-core/tasks.html)
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from mashup.errors import MashupError, Problem, UsageError
from mashup.experiment.jobs import Failures, Job, Store
from mashup.experiment.settings import Experiment
from mashup.experiment.work import do
from mashup.experiment.worker import Worker
from mashup.processes import process_count

_OBJECTS = 100 << 20  # bytes; results go through files
_PATIENCE = 10  # seconds
RETRIES = 5  # times that a job is started again whose process died


def run_ray(worker: Worker, jobs: Iterable[Job], done: Callable[[Job], None]) -> Failures:
    """Do the jobs on a Ray cluster.

    Raises:
        UsageError: Ray is not installed or its cluster cannot be reached; it is one of several
            processes that accelerate started.
    """
    if process_count() > 1:
        fix = "give executor.kind: local, or start it plainly"
        found = f"{process_count()} processes of accelerate launch"
        raise UsageError(Problem("Ray starts processes itself", "executor.kind", found, fix=fix))
    ray = _ray()
    started = _start(ray, worker.experiment)
    try:
        return _run(ray, worker, list(jobs), done)
    finally:
        if started:
            ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        fix = "pip install 'mashup-learning[ray]', or executor.kind: local"
        problem = Problem("Ray is not installed", "executor.kind", "ray", fix=fix)
        raise UsageError(problem) from error
    return ray


def _start(ray: Any, experiment: Experiment) -> bool:
    """Join the cluster; whether one had to be started."""
    if ray.is_initialized():
        return False
    address = experiment.executor.address
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            ray.init(include_dashboard=False, log_to_driver=False, object_store_memory=_OBJECTS)
        else:
            _knock(address)
            ray.init(address=address, log_to_driver=False)
    except (ConnectionError, OSError, RuntimeError) as error:
        fix = "start it with 'ray start', or leave executor.address out"
        problem = Problem("no Ray cluster", str(address), str(error).splitlines()[0], fix=fix)
        raise UsageError(problem) from error
    finally:  # Ray takes SIGTERM for itself, and ends with a dump of its stack
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
    return True


def _knock(address: str) -> None:
    """Ray itself would wait for a cluster that is not there, for minutes.

    Raises:
        OSError: nobody answers at ``host:port``.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()


def _run(ray: Any, worker: Worker, jobs: list[Job], done: Callable[[Job], None]) -> Failures:
    wants = worker.experiment.executor
    task = ray.remote(_task).options(
        num_cpus=wants.num_cpus, num_gpus=wants.num_gpus, max_retries=RETRIES
    )
    experiment, root = worker.experiment.model_dump_json(), str(worker.store.root.absolute())
    running: dict[Any, Job] = {}
    refs: dict[str, Any] = {}
    for job in jobs:
        needed = [refs[key] for key in job.before if key in refs]
        refs[job.key] = task.remote(experiment, root, job, *needed)
        running[refs[job.key]] = job
    failures = Failures()
    while running:
        (ready, *_), _ = ray.wait(list(running), num_returns=1)
        _finished(ray, ready, running.pop(ready), failures, done)
    return failures


def _finished(
    ray: Any, ready: Any, job: Job, failures: Failures, done: Callable[[Job], None]
) -> None:
    try:
        problems = ray.get(ready)
    except ray.exceptions.RayTaskError as error:
        raise error.as_instanceof_cause() from None
    except ray.exceptions.RayError as error:
        lost = Problem("job was lost", job.name, str(error).splitlines()[0])
        problems = [lost]
    if problems is None:
        done(job)
    else:
        failures.add(job, problems)


def _task(experiment: str, root: str, job: Job, *needed: list[Problem] | None) -> Any:
    """In a process of Ray's: None when done, else the problems; none of those that it needs."""
    if any(problems is not None for problems in needed):
        return []
    try:
        do(_worker(experiment, root), job)
    except MashupError as error:
        return list(error.problems)
    return None


@lru_cache(maxsize=1)
def _worker(experiment: str, root: str) -> Worker:
    """One base a process, whatever number of jobs it does."""
    return Worker(Experiment.model_validate_json(experiment), Store(Path(root)))
