"""How far an experiment is, how long the rest will take, and how much disk it needs.

A job takes fixed seconds, for setting up and for every optimizer step, and seconds for its tokens.
The unit of tokens is one token through the model once, forward. A training step costs three
(forward, and backward for activations and weights: Kaplan et al., arXiv 2001.08361, section 2.1),
an evaluation one. How fast both go is fitted to jobs that are done, else measured on the base.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from mashup.checkpoint import locate, read_tensors
from mashup.experiment.jobs import Job, Plan, Store
from mashup.experiment.settings import Experiment
from mashup.settings import TrainSettings
from mashup.task import Task

_CHARACTERS = 4  # a token, near enough before anything is tokenized
_BACKWARD = 3
#: Seconds that do not depend on the model's size, measured on one core.
_SETUP = {"train": 1.3, "score": 0.2, "init": 0.2}
_STEP = 0.04
_NOMINAL = 5e10  # operations a second, while nothing was measured
_ROWS = 16  # that are evaluated to measure the base


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


@dataclass(frozen=True)
class Work:
    """What a job takes: fixed seconds, and forward tokens; both are estimates."""

    fixed: float
    tokens: float


@dataclass(frozen=True)
class Pace:
    """How fast jobs are done.

    Attributes:
        fixed: factor on the fixed seconds.
        token: seconds a forward token.
        load: seconds until the base is loaded.
    """

    fixed: float
    token: float
    load: float = 0.0

    def seconds(self, work: Work) -> float:
        """How long a job of so much work takes."""
        return self.fixed * work.fixed + self.token * work.tokens


def work_of(job: Job, tasks: Mapping[str, Task], donors: int) -> Work:
    """What a job takes.

    Args:
        job: any job of a plan.
        tasks: by name.
        donors: how many are scored.
    """
    from mashup._race.plan import make_plan
    from mashup._race.race import rung_points
    from mashup._race.starts import LEAST_LOSS
    from mashup._train.trainer import curve_steps, steps_of

    task, setup = tasks[job.about["task"]], _SETUP[job.kind]
    row = _row_tokens(task)
    if job.kind == "score":
        choose = job.decides.get("choose", {"samples": 0})  # a choice by probes reads their runs
        return Work(setup, row * choose["samples"] * (1 + donors))
    if job.kind == "init":
        return Work(setup, row * job.decides["samples"])
    settings = TrainSettings(**job.decides["settings"])
    steps = steps_of(len(task.train), settings)
    points = 1 + len(curve_steps(steps, settings))
    tests = {"all": points, "end": 1, "none": 0}[settings.test_points]
    dev = points * len(task.dev)
    if rates := job.decides.get("race"):  # as if no lane were given up early
        starts = [role for role in job.needs if role.startswith("start ")]
        starts.remove(f"start {LEAST_LOSS}")  # it races only where there is no merge
        most = make_plan(starts, rates, rung_points(len(task.train), settings), None).most
        dev, steps = dev * most // steps, most
    held = dev + tests * len(task.test)
    held += 2 * len(task.dev) if job.needs.get("init") else 0
    tokens = row * (_BACKWARD * steps * settings.batch_size + held)
    return Work(setup + _STEP * steps, tokens)


def _row_tokens(task: Task) -> float:
    some = task.train[:64]
    characters = sum(len(message.content) for row in some for message in row.messages)
    return characters / len(some) / _CHARACTERS


def known_pace(plan: Plan, store: Store, work: Mapping[str, Work]) -> Pace | None:
    """The pace that fits the jobs that are done best; None when there are none."""
    from scipy.optimize import nnls

    known = {key: store.result(key) for key, job in plan.jobs.items() if store.is_done(job)}
    took = {key: facts["took"] for key, facts in known.items() if "same_as" not in facts}
    if not took:
        return None
    spent = np.array([(work[key].fixed, work[key].tokens) for key in took])
    (fixed, token), _ = nnls(spent, list(took.values()))
    return Pace(float(fixed), float(token))


def nominal_pace(experiment: Experiment) -> Pace:
    """A guess by the size of the base: two operations a weight and token."""
    return Pace(1.0, 2 * weights_of(experiment) / _NOMINAL)


def measured_pace(experiment: Experiment, store: Store) -> Pace:
    """Load the base and evaluate some rows of the first target, twice: the second time counts.

    Raises:
        InputError: the base cannot be loaded, or rows cannot be tokenized.
    """
    from mashup.evaluate.evaluate import evaluate, plain_batches, sample_tokens
    from mashup.experiment.worker import Worker

    begin = time.perf_counter()
    worker = Worker(experiment, store)
    base, task = worker.base, worker.task(experiment.wanted[0])
    load = time.perf_counter() - begin
    tokens = sample_tokens(base, task, _ROWS, experiment.split_seed, experiment.train.max_length)
    batches = plain_batches(base, tokens)
    for _ in range(2):
        begin = time.perf_counter()
        evaluate(base.model, batches)
        spent = time.perf_counter() - begin
    return Pace(1.0, spent / (_row_tokens(task) * len(tokens)), load)


def weights_of(experiment: Experiment) -> int:
    """How many weights the base has, from headers."""
    stored = read_tensors(locate(experiment.base)).values()
    return sum(one.rows * one.row_size for one in stored)


def bytes_of(jobs: Iterable[Job], experiment: Experiment) -> int:
    """Disk of the weights that are kept, and of what a run needs while it trains."""
    kept = sum(job.keeps_weights for job in jobs)
    whole = weights_of(experiment)
    if experiment.train.is_full:
        return kept * 4 * whole + 16 * whole
    each = 4 * _adapter_weights(experiment, max(experiment.rank, experiment.train.lora_r))
    return (kept + 4) * each


def _adapter_weights(experiment: Experiment, rank: int) -> int:
    """Of a LoRA on every matrix of the layers, from headers."""
    stored = read_tensors(locate(experiment.base)).items()
    shapes = [one.shape for name, one in stored if ".layers." in name and len(one.shape) == 2]
    return sum(rank * (rows + columns) for rows, columns in shapes)
