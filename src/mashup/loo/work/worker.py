"""What stays from job to job in a process: the base in memory, tasks, where results are."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mashup._score.racing import finalists_for
from mashup._score.result import Score
from mashup._score.score import score
from mashup._score.scores import Scores
from mashup.checkpoint import read_checkpoint
from mashup.library import Library, scan
from mashup.library.leakage import leaking
from mashup.loo.experiment import Experiment, task_in
from mashup.loo.job import Job
from mashup.loo.store import Store, best_of
from mashup.model import Base, load_base
from mashup.progress import SILENT, Progress
from mashup.task import Example, Task, load_task


@dataclass
class Worker:
    """One process's share: the base is loaded once, tasks are read once."""

    experiment: Experiment
    store: Store
    progress: Progress = SILENT
    _tasks: dict[str, Task] = field(default_factory=dict)

    @cached_property
    def base(self) -> Base:
        return self.load(self.experiment.base)

    def load(self, name: str | Path) -> Base:
        """A base as the experiment computes with it."""
        of = self.experiment
        return load_base(
            name, dtype=of.dtype, device=of.device, attn_implementation=of.attn_implementation
        )

    def task(self, name: str) -> Task:
        if name not in self._tasks:
            self._tasks[name] = load(self.experiment, name)
        return self._tasks[name]

    def settings(self, job: Job) -> Experiment:
        """The experiment with what the variant that a job is of sets instead."""
        return self.experiment.varied(job.about.get("variant", ""))

    def best_of(self, keys: tuple[str, ...]) -> dict[str, Any] | None:
        """The facts of the run with the least dev loss; None when all diverged."""
        return best_of([self.store.result(key) for key in keys])

    def donors(self, job: Job) -> Library:
        """The best run on every other task, or what is in the experiment's library."""
        if self.experiment.library:
            library = scan(self.experiment.library)
            leaks = leaking(library.usable, self.task(job.about["task"]))
            kept = tuple(c for c in library.checkpoints if str(c.path) not in leaks)
            return replace(library, checkpoints=kept)
        roles = [role for role in job.needs if role in self.experiment.tasks]
        return Library(self.store.root, self.runs(job, roles))

    def runs(self, job: Job, roles: list[str]) -> tuple[Any, ...]:
        """Checkpoints of the best run of each role that a job needs."""
        found = (self.best_of(job.needs[role]) for role in roles)
        return tuple(read_checkpoint(self.place(run["path"])) for run in found if run)

    def scores(self, job: Job) -> Scores:
        """The ranking for a job's target; what was measured before is not measured again."""
        choose = self.settings(job).choose
        return score(
            self.donors(job), self.base, self.task(job.about["task"]), samples=choose.samples,
            seed=self.experiment.split_seed, criterion=choose.criterion, strategy=choose.strategy,
            finalists=finalists_for(choose.k), max_length=self.experiment.train.max_length,
            accept_base=True, strict=not self.experiment.library, progress=self.progress,
        )  # fmt: skip

    def name_of(self, donor: Score) -> str:
        """What tables call a donor: its task, or its name in the library."""
        return donor.name if self.experiment.library else task_of(donor)

    def place(self, relative: str) -> Path:
        """A path that a result tells, which is relative to the store."""
        return self.store.root / relative


def task_of(score: Score) -> str:
    """What a donor of ours was trained on: its folder is called so."""
    assert score.checkpoint is not None
    return task_in(score.checkpoint.path.name)


def load(experiment: Experiment, name: str) -> Task:
    """A task of an experiment, with the sizes that it or the experiment gives."""
    data = experiment.tasks[name]
    return load_task(
        data.dataset, test=data.test_dataset, name=name, record=data.task_record,
        train_rows=data.train_rows or experiment.train_rows,
        dev_rows=data.dev_rows or experiment.dev_rows,
        test_rows=data.test_rows or experiment.test_rows, seed=experiment.split_seed,
        **data.reading,
    )  # fmt: skip


def with_shuffled_answers(task: Task, seed: int) -> Task:
    """The same prompts and the same answers, one with the other's: only the format is learned."""
    order = list(task.train)
    random.Random(seed).shuffle(order)
    pairs = zip(task.train, order, strict=True)
    return replace(task, train=tuple(_answered(one, other) for one, other in pairs))


def _answered(prompt: Example, answer: Example) -> Example:
    turns = (*prompt.messages[: prompt.first_answer], *answer.messages[answer.first_answer :])
    return replace(prompt, messages=turns)
