"""Run an experiment: every job once, then records; a call after a kill goes on where it was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel

from mashup._report.experiment import write_experiment_report
from mashup.errors import InputError, Problem
from mashup.files import disk_errors, make_folder, only_one, read_state, to_json, write_text
from mashup.loo.estimate import (
    Pace,
    Work,
    bytes_of,
    known_pace,
    measured_pace,
    nominal_pace,
    work_of,
)
from mashup.loo.experiment import Experiment
from mashup.loo.graph import Plan
from mashup.loo.inputs import notes_on, read_inputs
from mashup.loo.job import Job
from mashup.loo.local import run_local
from mashup.loo.plan import make_plan
from mashup.loo.ray import run_ray
from mashup.loo.read import STORE
from mashup.loo.results import all_records, cell_keys, target_is_done
from mashup.loo.status import Status, Tally
from mashup.loo.store import Store
from mashup.loo.work.worker import Worker
from mashup.processes import is_first, wait
from mashup.progress import SILENT, Progress
from mashup.results.records import Record, read_records, write_records
from mashup.task import commonest_accuracy

EXPERIMENT, RECORDS, JOBS, REPORT = "experiment.json", "records.jsonl", "jobs", "report"


class _Named(BaseModel):
    """What an experiment's file must say to tell it from others."""

    name: str


@dataclass(frozen=True)
class Prepared:
    """An experiment whose inputs were read, nothing done yet.

    Attributes:
        work: key of a job to what it takes, an estimate.
        pace: how fast jobs are done, an estimate.
        is_measured: whether the pace is that of jobs or of the base, and not by its size alone.
        commonest: accuracy of the commonest answer, by target.
        notes: what a user must know of the data, such as donors that are left out.
    """

    experiment: Experiment
    output: Path
    plan: Plan
    store: Store
    work: dict[str, Work]
    pace: Pace
    is_measured: bool
    commonest: dict[str, float]
    notes: tuple[str, ...] = ()

    @cached_property
    def _tally(self) -> Tally:
        return Tally(self.plan, self.store, self.seconds, 1.0)

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Key of a job to the seconds that it takes, an estimate."""
        return {key: self.pace.seconds(one) for key, one in self.work.items()}

    def measured(self) -> Prepared:
        """The same with the pace of the base, which is loaded for it, where no job is done yet.

        Raises:
            InputError: the base cannot be loaded.
        """
        if self.is_measured:
            return self
        pace = measured_pace(self.experiment, self.store)
        return replace(self, pace=pace, is_measured=True)

    @property
    def status(self) -> Status:
        """How far it is now; cheap to ask after every job."""
        return self._tally.status()

    @property
    def bytes(self) -> int:
        """Disk that is needed, an estimate."""
        return bytes_of(self.plan.jobs.values(), self.experiment)


def prepare(
    experiment: Experiment, output: str | Path, *, jobs: str | Path | None = None
) -> Prepared:
    """Check all inputs and lay out the jobs; nothing is trained or written but digests.

    Args:
        experiment: what to run.
        output: folder of records and pages.
        jobs: folder of the jobs' results, which experiments may share; ``output/jobs``.

    Raises:
        InputError: inputs that cannot be used.
    """
    output = Path(output).absolute()
    store = Store(Path(jobs).absolute() if jobs else output / JOBS)
    inputs, tasks = read_inputs(experiment, store.root)
    plan = make_plan(experiment, inputs)
    donors = len(inputs.library) or len(experiment.tasks) - 1
    work = {key: work_of(job, tasks, donors) for key, job in plan.jobs.items()}
    pace = known_pace(plan, store, work)
    commonest = {name: commonest_accuracy(tasks[name]) for name in experiment.wanted}
    notes = notes_on(inputs, tasks, experiment.wanted)
    return Prepared(
        experiment, output, plan, store, work, pace or nominal_pace(experiment),
        pace is not None, commonest, notes,
    )  # fmt: skip


def run_experiment(
    prepared: Prepared,
    *,
    progress: Progress = SILENT,
    watch: Callable[[Status], None] = lambda status: None,
) -> tuple[Record, ...]:
    """Do what is not done; write ``records.jsonl`` and the report after every target.

    Args:
        prepared: of :func:`prepare`.
        progress: where to show bars within a job.
        watch: told how far it is after every job.

    Raises:
        InputError: jobs that could not be done, after all others were; another process runs it.
        UsageError: an executor that is not there.
    """
    output = prepared.output
    _refuse_other(prepared)
    with _alone(prepared) if is_first() else contextlib.nullcontext():
        if is_first():
            make_folder(output)
            write_text(output / EXPERIMENT, prepared.experiment.model_dump_json(indent=1))
            write_text(output / STORE, to_json({"jobs": str(prepared.store.root)}))
        worker = Worker(prepared.experiment, prepared.store, progress)
        run = run_ray if prepared.experiment.executor.kind == "ray" else run_local
        open_jobs = [j for j in prepared.plan.jobs.values() if not prepared.store.is_done(j)]
        wait()  # every process knows the same jobs as open
        failures = run(worker, open_jobs, lambda job: _after(job, prepared, watch, progress))
        if is_first():
            _publish(prepared)
        wait()
    failures.raise_all()
    return read_records(output / RECORDS)


@contextlib.contextmanager
def _alone(prepared: Prepared) -> Iterator[None]:
    """No other process works on the experiment, nor on the jobs that it may share."""
    with disk_errors(prepared.output), only_one(prepared.output), only_one(prepared.store.root):
        yield


def _after(
    job: Job, prepared: Prepared, watch: Callable[[Status], None], progress: Progress
) -> None:
    """Whoever watches is told; a target that this job was the last of is published."""
    if not is_first():
        return
    status = prepared.status
    progress.done(job.name)
    watch(status)
    plan, store = prepared.plan, prepared.store
    targets = {cell.target for cell in plan.cells if job.key in cell_keys(cell)}
    if status.done < status.total and any(target_is_done(t, plan, store) for t in targets):
        _publish(prepared)


def _publish(prepared: Prepared) -> None:
    """Write records and report of the targets that are done so far."""
    records = all_records(prepared.experiment, prepared.plan, prepared.store, prepared.commonest)
    write_records(prepared.output / RECORDS, records)
    if records:
        write_experiment_report([prepared.output], prepared.output / REPORT)


def _refuse_other(prepared: Prepared) -> None:
    """A folder holds one experiment; its settings may change, its name may not."""
    path = prepared.output / EXPERIMENT
    known = prepared.experiment.name
    if path.exists():
        known = read_state(_Named, path, "remove it; the same command writes it anew").name
    if known != prepared.experiment.name:
        fix = "choose another --output"
        where = str(prepared.output)
        raise InputError(
            Problem("output exists already", where, known, prepared.experiment.name, fix)
        )
