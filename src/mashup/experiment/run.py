"""Run an experiment: every job once, then records; a call after a kill goes on where it was.

``prepare`` reads all inputs and lays out the jobs, ``run_jobs`` does those that are not done. Torch
is imported when the tasks have been read.
"""

from __future__ import annotations

import contextlib
import datetime
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from mashup.errors import InputError, MashupError, Problem, UsageError, gather
from mashup.experiment.arms import make_plan
from mashup.experiment.inputs import notes_on, read_inputs, read_tasks
from mashup.experiment.jobs import Failures, Job, Layout, Plan, Store, write_layout
from mashup.experiment.results import all_records
from mashup.experiment.settings import STORE, Experiment, known_jobs, read_experiment
from mashup.experiment.status import (
    Pace,
    Status,
    Tally,
    Work,
    bytes_of,
    known_pace,
    measured_pace,
    nominal_pace,
    work_of,
)
from mashup.faults import validated
from mashup.outputs import (
    disk_errors,
    make_folder,
    only_one,
    refuse_unwritable,
    to_json,
    write_text,
)
from mashup.processes import is_first, wait
from mashup.progress import SILENT, Progress
from mashup.results.records import Record, read_records, write_records
from mashup.settings import ARMS
from mashup.state import VERSION, read_state
from mashup.tables import Shown, as_frame
from mashup.task import commonest_accuracy

if TYPE_CHECKING:
    import torch

    from mashup.experiment.worker import Worker

_FIX = "remove it; the same command writes it anew"
EXPERIMENT, RECORDS, JOBS, REPORT = "experiment.json", "records.jsonl", "jobs", "report"


class _Noted(BaseModel, extra="allow"):
    """``experiment.json``: an experiment, the version of the format, and how it was made."""

    version: Literal[1] = 1
    name: str


@dataclass(frozen=True)
class Prepared:
    """An experiment whose inputs were read, nothing done yet.

    Attributes:
        work: key of a job to what it takes, an estimate.
        pace: how fast jobs are done, an estimate.
        is_measured: whether the pace is that of jobs or of the base, and not by its size alone.
        commonest: accuracy of the commonest answer, by target.
        labels: number of training examples, by target.
        notes: what a user must know of the data, such as donors that are left out.
        leaks: those of them on what is not known of the sources' training data.
    """

    experiment: Experiment
    output: Path
    plan: Plan
    store: Store
    work: dict[str, Work]
    pace: Pace
    is_measured: bool
    commonest: dict[str, float]
    labels: dict[str, int]
    notes: tuple[str, ...] = ()
    leaks: tuple[str, ...] = ()

    @property
    def layout(self) -> Layout:
        """What its records are made of."""
        return Layout.of(self.experiment.name, self.plan, self.commonest, self.labels)

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
        OutputError: ``output`` cannot be written.
    """
    output = Path(output).absolute()
    store = Store(Path(jobs).absolute() if jobs else output / JOBS)
    tasks, _ = gather(lambda: read_tasks(experiment), lambda: refuse_unwritable(output))
    inputs = read_inputs(experiment, tasks, store.root)
    plan = make_plan(experiment, inputs)
    donors = len(inputs.library) or len(experiment.tasks) - 1
    work = {key: work_of(job, tasks, donors) for key, job in plan.jobs.items()}
    pace = known_pace(plan, store, work)
    commonest = {name: commonest_accuracy(tasks[name]) for name in experiment.wanted}
    labels = {name: len(tasks[name].train) for name in experiment.wanted}
    from mashup.model.base import slow_dtype

    notes = notes_on(inputs, tasks, experiment.wanted)
    if slow := slow_dtype(experiment.dtype, experiment.device):
        notes += (slow,)
    if pace is None and (others := sum(map(store.has, store.begun()))):
        precision = inputs.base.split()[1]
        notes += (
            f"{store.root} has {others} finished jobs, none of them of this experiment: they have "
            f"another base, precision (here {precision}), data or settings",
        )
    return Prepared(
        experiment, output, plan, store, work, pace or nominal_pace(experiment),
        pace is not None, commonest, labels, notes, inputs.leaks,
    )  # fmt: skip


def run_jobs(
    prepared: Prepared,
    *,
    progress: Progress = SILENT,
    watch: Callable[[Status], None] = lambda status: None,
) -> tuple[Record, ...]:
    """Do what is not done; write ``records.jsonl`` and the report after every stage of a target.

    Args:
        prepared: of :func:`prepare`.
        progress: where to show bars within a job.
        watch: called with the status after every job.

    Raises:
        InputError: jobs that could not be done, after all others were; another process runs it.
        UsageError: an executor that is not there.
    """
    from mashup.experiment.ray import run_ray
    from mashup.experiment.worker import Worker

    output = prepared.output
    _refuse_other(prepared)
    with _alone(prepared) if is_first() else contextlib.nullcontext():
        if is_first():
            _note(prepared)
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


def run_local(worker: Worker, jobs: Iterable[Job], done: Callable[[Job], None]) -> Failures:
    """All jobs in this process, one after the other; the base stays in memory.

    What cannot be done is reported at the end, the others go on. Under ``accelerate launch`` every
    job is done by all its processes together.
    """
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
    from mashup.experiment.work import do

    problems: Iterable[Problem] | None = None
    if is_first() or job.kind == "train":
        try:
            do(worker, job)
        except MashupError as error:
            problems = error.problems
    wait()
    return problems if is_first() or worker.store.is_done(job) else ()


@contextlib.contextmanager
def _alone(prepared: Prepared) -> Iterator[None]:
    """No other process works on the experiment, nor on the jobs that it may share."""
    with disk_errors(prepared.output), only_one(prepared.output), only_one(prepared.store.root):
        yield


def _after(
    job: Job, prepared: Prepared, watch: Callable[[Status], None], progress: Progress
) -> None:
    """Reports the status; a stage of a target that this job was the last of is published."""
    if not is_first():
        return
    status = prepared.status
    progress.done(job.name)
    watch(status)
    cells, jobs = prepared.plan.cells, prepared.plan.jobs
    for target, stage in {(one.target, one.stage) for one in cells if job.key in one.keys}:
        here = [one for one in cells if (one.target, one.stage) == (target, stage)]
        keys = {key for one in here for key in one.keys}
        if status.done < status.total and all(prepared.store.is_done(jobs[key]) for key in keys):
            _publish(prepared)
            return


def publish(prepared: Prepared) -> tuple[Record, ...]:
    """Write records and report of what is done, and do nothing else.

    Raises:
        InputError: nothing can be shown yet; another process runs the experiment.
    """
    _refuse_other(prepared)
    with _alone(prepared):
        _note(prepared)
        _publish(prepared)
    records = read_records(prepared.output / RECORDS)
    if not _has_run(records):
        found, fix = f"{prepared.status.done} jobs", "run it until a first target has scratch"
        raise InputError(Problem("nothing to report yet", str(prepared.output), found, fix=fix))
    return records


def _note(prepared: Prepared) -> None:
    """Write what the folder of results is for, and where its jobs are."""
    from mashup.model.base import named_device

    make_folder(prepared.output)
    about = prepared.experiment.model_dump(mode="json")
    about |= {"version": VERSION, "made": made_now(named_device(prepared.experiment.device))}
    about |= {"leaks": list(prepared.leaks)} if prepared.leaks else {}
    write_text(prepared.output / EXPERIMENT, to_json(about))
    write_text(prepared.output / STORE, to_json({"jobs": str(prepared.store.root)}))
    write_layout(prepared.output, prepared.layout)


def _publish(prepared: Prepared) -> None:
    """Write records and report of the arms and targets that are done so far."""
    from mashup._report.write import report

    records = all_records(prepared.layout, prepared.store)
    write_records(prepared.output / RECORDS, records)
    if _has_run(records):
        report(prepared.output, prepared.output / REPORT)


def _has_run(records: Iterable[Record]) -> bool:
    """Whether a report can be made: some target has runs of scratch, if only short ones."""
    return any(one.arm == "scratch" for one in records)


def made_now(device: torch.device) -> dict[str, Any]:
    """When, how, on what and with which versions results are made, for their pages.

    No path of this machine is in it: an absolute path in the command is cut to its last part.
    """
    from mashup._merge.manifest import versions
    from mashup.model.base import hardware

    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    program, *given = sys.argv
    words = [Path(word).name if Path(word).is_absolute() else word for word in given]
    is_ours = Path(program).name == "mashup"
    command = {"command": shlex.join(["mashup", *words])} if is_ours else {}
    return {"date": today, **command, "hardware": hardware(device), "versions": versions()}


def _refuse_other(prepared: Prepared) -> None:
    """A folder holds one experiment; its settings may change, its name may not."""
    path = prepared.output / EXPERIMENT
    known = prepared.experiment.name
    if path.exists():
        known = read_state(_Noted, path, _FIX).name
    if known != prepared.experiment.name:
        fix = "choose another `output`"
        where = str(prepared.output)
        raise InputError(
            Problem("output exists already", where, known, prepared.experiment.name, fix)
        )


# -- the public function


@dataclass(frozen=True, repr=False)
class ExperimentResult(Shown):
    """A finished experiment, on disk with its report.

    Attributes:
        path: folder with ``records.jsonl``, ``experiment.json``, ``jobs/`` and ``report/``.
        records: all measured values.
    """

    path: Path
    records: tuple[Record, ...]

    def to_pandas(self) -> Any:
        """A ``DataFrame`` with a row for each measured value, as in ``records.jsonl``."""
        return as_frame([asdict(record) for record in self.records])

    @property
    def page(self) -> Path:
        return self.path / REPORT / "index.html"

    @property
    def _title(self) -> str:
        return f"Experiment {self.path}: {len(self.records):,} records"

    def _shown(self) -> list[dict[str, Any]]:
        """Gains over scratch by target and arm."""
        return [
            {"target": r.task, "arm": r.arm, "gain": r.value, "low": r.low, "high": r.high}
            for r in self.records
            if r.metric == "test_accuracy_gain" and r.budget == 1.0
        ]


def run_experiment(
    experiment: Experiment | Mapping[str, Any] | str | Path,
    *,
    output: str | Path | None = None,
    jobs: str | Path | None = None,
    model: str | None = None,
    data: str | Path | None = None,
    arms: Sequence[str] = (),
    targets: Sequence[str] = (),
    progress: Progress = SILENT,
) -> ExperimentResult:
    """Run an experiment: tasks × arms × seeds × learning rates, leave-one-out or from a library.

    For each target, checkpoints of the other tasks are trained (or taken from ``library``), ranked
    and merged; then every arm is trained with every learning rate and seed. The same call again
    continues an experiment that was stopped. Finished jobs are reused, also from other experiments
    that share ``jobs``.

    Args:
        experiment: a YAML file (``docs/loo.md`` describes it), the same values as a mapping, or
            the folder of an experiment that was begun before.
        output: folder for the results; by default named after the YAML file or the experiment.
        jobs: folder of finished jobs, to share them; by default ``output/jobs``.
        model: base model, instead of the file's.
        data: folder that the paths of the tasks in the file are relative to.
        arms: arms and variants to run, instead of the file's.
        targets: targets to run, or patterns of them (``crises/*``), instead of the file's.
        progress: where to show bars.

    Returns:
        The records of all targets. ``output/report/index.html`` shows them.

    Raises:
        UsageError: a file that cannot be read, or settings that cannot be; all at once.
        InputError: a base, data or checkpoints that cannot be used; jobs that could not be done,
            after all others were; another process runs it.
        OutputError: ``output`` cannot be written.
    """
    known, folder = open_experiment(
        experiment, output, model=model, data=data, arms=arms, targets=targets
    )
    records = run_jobs(prepare(known, folder, jobs=jobs_of(experiment, jobs)), progress=progress)
    return ExperimentResult(folder.absolute(), records)


def open_experiment(
    experiment: Experiment | Mapping[str, Any] | str | Path,
    output: str | Path | None = None,
    *,
    model: str | None = None,
    data: str | Path | None = None,
    arms: Sequence[str] = (),
    targets: Sequence[str] = (),
) -> tuple[Experiment, Path]:
    """The experiment that is meant, and its folder; arguments as for :func:`run_experiment`.

    Raises:
        UsageError: a file that cannot be read, or settings that cannot be.
    """
    if isinstance(experiment, str | Path) and Path(experiment).is_dir():
        known, named = _begun(Path(experiment)), Path(experiment)
    elif isinstance(experiment, str | Path):
        known, named = read_experiment(experiment, data), Path(Path(experiment).stem)
    else:
        known = experiment if isinstance(experiment, Experiment) else validated(
            Experiment, dict(experiment), "`experiment`"
        )  # fmt: skip
        named = Path(known.name)
    if model:
        known = known.model_copy(update={"base": model})
    known = _only(known, arms) if arms else known
    known = _aimed(known, targets) if targets else known
    return known, Path(output) if output else named


def jobs_of(experiment: Any, jobs: str | Path | None) -> str | Path | None:
    """Where the jobs are, as the folder itself says when it is given."""
    is_folder = isinstance(experiment, str | Path) and not jobs
    return known_jobs(Path(experiment)) if is_folder else jobs


def _begun(folder: Path) -> Experiment:
    """The experiment that was begun in a folder."""
    path = folder / EXPERIMENT
    if not path.exists():
        found, fix = f"no {EXPERIMENT}", "give the YAML file, or the folder of its results"
        raise UsageError(Problem("no experiment here", str(folder), found, fix=fix))
    values = read_state(_Noted, path, _FIX).model_dump(exclude={"version", "made"})
    return validated(Experiment, values, str(path))


def _only(experiment: Experiment, names: Sequence[str]) -> Experiment:
    """With these arms and variants alone.

    Raises:
        UsageError: names of neither; arms that cannot be with the other settings.
    """
    known = (*ARMS, *experiment.variants)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(Problem("unknown arm", "`arms`", ", ".join(unknown), ", ".join(known)))
    arms = [name for name in dict.fromkeys(names) if name in ARMS]
    variants = {name: one for name, one in experiment.variants.items() if name in names}
    return experiment.model_copy(update={"arms": tuple(arms), "variants": variants})


def _aimed(experiment: Experiment, patterns: Sequence[str]) -> Experiment:
    """With those of its targets alone that a name or pattern means.

    Raises:
        UsageError: a pattern that means none.
    """
    known = experiment.wanted
    found = {one: [name for name in known if fnmatchcase(name, one)] for one in patterns}
    if unknown := [one for one, names in found.items() if not names]:
        raise UsageError(
            Problem("unknown target", "`targets`", ", ".join(unknown), ", ".join(known))
        )
    meant = {name for names in found.values() for name in names}
    return experiment.model_copy(update={"targets": tuple(t for t in known if t in meant)})
