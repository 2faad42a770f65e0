"""What stays from job to job in a process: the base in memory, tasks, where results are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mashup._score.racing import finalists_for
from mashup._score.score import score
from mashup._score.scores import Score, Scores
from mashup._select import Selection, select
from mashup.checkpoint import Checkpoint, read_checkpoint
from mashup.experiment.inputs import library_of, load, named_checkpoints, twins_of
from mashup.experiment.jobs import Job, Store, best_of
from mashup.experiment.settings import Experiment, task_in
from mashup.library import Library
from mashup.model import Base, load_base
from mashup.progress import SILENT, Progress
from mashup.settings import ScoreSettings, SelectSettings
from mashup.task import Task

#: Where the results of a comparison are, under names that people read.
_NAMED = {"train": "runs", "init": "inits"}


@dataclass(frozen=True)
class Given:
    """What a caller holds in memory, in place of names in the experiment.

    Attributes:
        base: loaded.
        task: the one target.
        selection: what was chosen from the library, and the scores behind it.
    """

    base: Base
    task: Task
    selection: Selection


@dataclass
class Worker:
    """One process's share: the base is loaded once, tasks are read once."""

    experiment: Experiment
    store: Store
    progress: Progress = SILENT
    given: Given | None = None
    _tasks: dict[str, Task] = field(default_factory=dict)

    @cached_property
    def base(self) -> Base:
        return self.given.base if self.given else self.load(self.experiment.base)

    def load(self, name: str | Path) -> Base:
        """A base as the experiment computes with it."""
        of = self.experiment
        return load_base(
            name, dtype=of.dtype, device=of.device, attn_implementation=of.attn_implementation
        )

    def task(self, name: str) -> Task:
        if self.given:
            return self.given.task
        if name not in self._tasks:
            self._tasks[name] = load(self.experiment, name)
        return self._tasks[name]

    def settings(self, job: Job) -> Experiment:
        """The experiment with the settings of the job's variant."""
        return self.experiment.varied(job.about.get("variant", ""))

    def best_of(self, keys: tuple[str, ...]) -> dict[str, Any] | None:
        """The facts of the run with the least dev loss; None when all diverged."""
        return best_of([self.store.result(key) for key in keys])

    def place(self, job: Job, name: str) -> Path:
        """Where a job puts what it makes, absolute.

        In the folder of the job; the runs and merges of a comparison are in ``runs/`` and
        ``inits/`` instead, where a name tells what they are of.
        """
        if self.given:
            return self.store.root.absolute() / _NAMED[job.kind] / name
        return self.store.folder(job.key).absolute() / name

    @cached_property
    def library(self) -> Library:
        """What is in the experiment's library."""
        return library_of(self.experiment)

    @cached_property
    def names(self) -> dict[Path | None, str]:
        """Path to name of the checkpoints of the library."""
        return {one.path: name for name, one in named_checkpoints(self.library).items()}

    @cached_property
    def twins(self) -> dict[str, Checkpoint]:
        """Name to checkpoint of the experiment's twins; those of the Hub without the owner too."""
        library = twins_of(self.experiment)
        named = named_checkpoints(library)
        if not library.source.startswith("hub:"):
            return named
        short = {one: name.partition("/")[2] for name, one in named.items()}
        counts = Counter(short.values())
        return {name: one for one, name in short.items() if counts[name] == 1} | named

    def twin_of(self, name: str) -> Checkpoint | None:
        """The twin of a checkpoint of the library, by its name with or without the Hub's owner."""
        short = name.partition("/")[2] if self.library.source.startswith("hub:") else ""
        return self.twins.get(name) or self.twins.get(short)

    def donors(self, job: Job) -> Library:
        """The best run on every other task, or what is in the experiment's library."""
        if self.experiment.library:
            left_out, full = job.about["left_out"], self.experiment.train.is_full
            whole = full or self.settings(job).merge.fold  # a LoRA starts from LoRAs
            kept = tuple(
                one
                for one in self.library.checkpoints
                if self.names.get(one.path) not in left_out and (whole or one.kind == "lora")
            )
            return replace(self.library, checkpoints=kept)
        roles = [role for role in job.needs if role in self.experiment.tasks]
        return Library(self.store.root, self.runs(job, roles))

    def runs(self, job: Job, roles: list[str]) -> tuple[Any, ...]:
        """Checkpoints of the best run of each role that a job needs."""
        found = (self.best_of(job.needs[role]) for role in roles)
        return tuple(read_checkpoint(self.store.place(run["path"])) for run in found if run)

    def scores(self, job: Job) -> Scores:
        """The ranking for a job's target; what was measured before is not measured again."""
        if self.given:
            return self.given.selection.scores
        choose = self.settings(job).choose
        return score(
            self.donors(job), self.base, self.task(job.about["task"]),
            choose.cut_to(ScoreSettings), seed=self.experiment.split_seed,
            finalists=finalists_for(choose.k), max_length=self.experiment.train.max_length,
            accept_base=True, strict=not self.experiment.library, progress=self.progress,
        )  # fmt: skip

    def selection(self, job: Job) -> Selection:
        """Which of them are merged."""
        choose = self.settings(job).choose
        if self.given:
            return self.given.selection
        return select(self.scores(job), choose.cut_to(SelectSettings))

    def name_of(self, donor: Score) -> str:
        """What tables call a donor: its task, or its path below the library."""
        if self.given:
            return donor.name
        return self.names[donor.path] if self.experiment.library else task_of(donor)


def task_of(score: Score) -> str:
    """What a donor of ours was trained on: its folder is called so."""
    assert score.checkpoint is not None
    return task_in(score.checkpoint.path.name)
