"""Jobs: one piece of work each, under the digest of all that decides its result.

An experiment is a :class:`Plan`: jobs in an order in which they can be done, and the cells of
the results that they fill. A :class:`Store` holds what the jobs left, so that a job that was done
once is never done again, whoever asks for it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, FiniteFloat

from mashup.errors import InputError, Problem
from mashup.files import digest_of
from mashup.outputs import to_json, write_text
from mashup.results.records import data_of
from mashup.state import read_state

Kind = Literal["score", "init", "train"]
RESULT, LAYOUT = "result.json", "layout.json"
#: Raise the number of a kind when the same job would give another result. Score 2: of equals in
#: knowledge the least loss is chosen first.
_CODE = {"score": 2, "init": 1, "train": 1}
_RUNNING = "running.json"


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        kind: which work it is.
        decides: JSON-able values that its result depends on.
        needs: role to keys of the jobs whose results it reads.
        about: what tables call it and where its data is. It does not change the result.
        keeps_weights: whether a later job reads the weights that it makes.
    """

    kind: Kind
    decides: Mapping[str, Any]
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    keeps_weights: bool = False

    @cached_property
    def key(self) -> str:
        """Digest (20 hex) of kind, values and the keys of what it needs."""
        needs = {role: list(keys) for role, keys in self.needs.items()}
        return digest_of(_CODE[self.kind], self.kind, dict(self.decides), needs)[:20]

    @property
    def before(self) -> tuple[str, ...]:
        """Keys of all jobs that must be done first."""
        return tuple(dict.fromkeys(key for keys in self.needs.values() for key in keys))

    @property
    def name(self) -> str:
        """One line for tables."""
        return " ".join([self.kind, *(str(word) for word in self.about.get("words", ()))])


@dataclass(frozen=True)
class LeftOut:
    """Why a source is not used for a target.

    Attributes:
        held_out: share of the target's dev and test prompts that it was trained on.
        own_task: share of the target's training prompts that it was trained on, where it is the
            target's own task; 1 where the folder names this task.
        by: the dataset that has these rows, as the source names it; "" where its prompts tell.
    """

    held_out: float = 0.0
    own_task: float = 0.0
    by: str = ""

    def __bool__(self) -> bool:
        return bool(self.held_out or self.own_task)

    @property
    def reason(self) -> str:
        if self.held_out:
            if self.by:
                return f"{self.held_out:.0%} of the dev and test rows are in {self.by}"
            return f"trained on {self.held_out:.0%} of the dev and test prompts"
        return "trained on the task itself"


@dataclass(frozen=True)
class Inputs:
    """What jobs are keyed by, apart from the settings of the experiment.

    Attributes:
        base: digest of the base, the precision and the attention that it is loaded with, as words.
        tasks: task name to digest of its examples and splits.
        steps: task name to optimizer steps of a whole run.
        library: name to digest of the checkpoints of an outside library.
        left_out: target to the sources that may not be used for it, and why.
        twins: name to digest of the twins of these checkpoints.
        leaks: sentences on what is not known of the training data of these checkpoints.
    """

    base: str
    tasks: Mapping[str, str]
    steps: Mapping[str, int]
    library: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, Mapping[str, LeftOut]] = field(default_factory=dict)
    twins: Mapping[str, str] = field(default_factory=dict)
    leaks: tuple[str, ...] = ()

    def may_use(self, donor: str, target: str) -> bool:
        """Whether a source is of another task, and has not seen the target's held-out rows."""
        return data_of(donor) != data_of(target) and donor not in self.left_out.get(target, {})


@dataclass(frozen=True)
class Cell:
    """One arm with one seed and budget on one target: a run for each learning rate.

    Attributes:
        runs: keys of the runs; the best of them by dev loss is the result of the cell.
        init: key of what they start from, None for the base.
        score: key of the ranking that the arm pays for, None when it does not.
        trained: False where the result is the start of the runs.
        search: keys of the runs by which its learning rate was found, where it has one of its own.
        stage: of the experiment, 0 first; jobs are done stage by stage.
    """

    target: str
    arm: str
    seed: int
    budget: float
    runs: tuple[str, ...]
    init: str | None = None
    score: str | None = None
    trained: bool = True
    search: tuple[str, ...] = ()
    stage: int = 0

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all jobs that the cell reads."""
        return tuple(key for key in (*self.runs, *self.search, self.init, self.score) if key)


@dataclass
class Plan:
    """Jobs by key, each after those that it needs, and the cells that they fill.

    Attributes:
        left_out: as in :class:`Inputs`.
    """

    jobs: dict[str, Job] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    left_out: Mapping[str, Mapping[str, LeftOut]] = field(default_factory=dict)

    def add(self, job: Job) -> str:
        """Put a job in, once; a later wish to keep its weights holds."""
        known = self.jobs.get(job.key)
        if known is None or (job.keeps_weights and not known.keeps_weights):
            self.jobs[job.key] = job if known is None else replace(known, keeps_weights=True)
        return job.key


class Layout(BaseModel, frozen=True):
    """What records are made of: which jobs fill which cells. Kept as ``layout.json``.

    Attributes:
        experiment: its name.
        targets: in the order of their records.
        cells: of all targets.
        rates: learning rate by key of the run.
        left_out: as in :class:`Inputs`.
        commonest: accuracy of the commonest training answer, by target.
        labels: number of training examples, by target.
    """

    version: Literal[1] = 1
    experiment: str
    targets: tuple[str, ...]
    cells: tuple[Cell, ...]
    rates: dict[str, float]
    left_out: dict[str, dict[str, LeftOut]]
    commonest: dict[str, float]
    labels: dict[str, int]

    @classmethod
    def of(
        cls,
        experiment: str,
        plan: Plan,
        commonest: Mapping[str, float],
        labels: Mapping[str, int],
    ) -> Layout:
        """Of a plan, with two facts about the data of each target; targets in their order."""
        rates = {
            key: plan.jobs[key].decides["settings"]["learning_rate"]
            for cell in plan.cells
            for key in cell.runs
        }
        left_out = {name: dict(one) for name, one in plan.left_out.items() if name in labels}
        return cls(
            experiment=experiment, targets=tuple(labels), cells=tuple(plan.cells), rates=rates,
            left_out=left_out, commonest=dict(commonest), labels=dict(labels),
        )  # fmt: skip


def write_layout(folder: Path, layout: Layout) -> None:
    """Keep the layout with the records that are made of it."""
    write_text(folder / LAYOUT, to_json(layout.model_dump(mode="json")))


def read_layout(folder: Path) -> Layout:
    """The layout of the results in a folder.

    Raises:
        InputError: the file is missing or damaged.
    """
    fix = f"remove it; the command that made {folder} writes it anew"
    return read_state(Layout, folder / LAYOUT, fix)


def _within(path: str) -> str:
    """A path that does not lead out of the store."""
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ValueError(f"{path!r} leads out of the folder of jobs")
    return path


_Inner = Annotated[str, AfterValidator(_within)]


class _Facts(BaseModel, extra="allow"):
    """What every result has; what else a job notes is kept as it is."""

    took: FiniteFloat


class _Trained(_Facts):
    kind: Literal["train"]
    diverged: Literal[False]
    path: _Inner
    dev_loss: FiniteFloat
    train_seconds: FiniteFloat
    check_seconds: FiniteFloat = 0.0
    search_seconds: FiniteFloat = 0.0


class _Diverged(_Facts):
    kind: Literal["train"]
    diverged: Literal[True]
    train_seconds: FiniteFloat


class _Ranked(_Facts):
    kind: Literal["score"]
    chosen: list[str]
    ranking: list[dict[str, Any]]
    base_loss: FiniteFloat
    base_accuracy: FiniteFloat
    seconds: FiniteFloat


class _Merged(_Facts):
    kind: Literal["init"]
    path: _Inner
    parents: list[str]
    seconds: FiniteFloat


_Result = _Trained | _Diverged | _Ranked | _Merged


class _Kept(BaseModel, extra="allow"):
    """Where a result has its weights, if it has them."""

    weights: bool = True
    path: _Inner = ""


class _Running(BaseModel):
    """Since when a job is being done."""

    since: FiniteFloat


@dataclass(frozen=True)
class Store:
    """Results on disk: one folder a job, called by its key; a result is whole or not there.

    Attributes:
        root: that the paths in results are relative to.
        inside: folder in it that has the folders of the jobs; by default ``root`` itself.
    """

    root: Path
    inside: str = ""

    def folder(self, key: str) -> Path:
        """Where a job puts what it makes."""
        return self.root / self.inside / key

    def is_done(self, job: Job) -> bool:
        """Whether its result is there, with the weights if a later job reads them.

        Published results have no weights: a merge is made again when a job needs it.
        """
        if not self.has(job.key) or not job.keeps_weights:
            return self.has(job.key)
        kept = read_state(_Kept, self.folder(job.key) / RESULT, self._fix(job.key))
        return kept.weights and (not kept.path or self.place(kept.path).exists())

    def has(self, key: str) -> bool:
        """Whether a result is there, with its weights or without."""
        return (self.folder(key) / RESULT).exists()

    def result(self, key: str) -> dict[str, Any]:
        """The facts that a job left.

        Raises:
            InputError: it was never done, or the file is damaged.
        """
        known: _Facts = read_state(_Result, self.folder(key) / RESULT, self._fix(key))  # type: ignore[arg-type]
        return known.model_dump()

    def place(self, relative: str) -> Path:
        """A path that a result holds."""
        return self.root / relative

    def relative(self, path: Path) -> str:
        """A path below the store, as results hold it."""
        return str(path.relative_to(self.root.absolute()))

    def _fix(self, key: str) -> str:
        return f"remove {self.folder(key)}: the same command does this job again"

    def finish(self, job: Job, facts: dict[str, Any]) -> None:
        """Keep the result of a job."""
        folder = self.folder(job.key)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _RUNNING).unlink(missing_ok=True)  # first: nobody looks for it once it is done
        write_text(folder / RESULT, to_json(facts | {"kind": job.kind, "name": job.name}))

    def begin(self, job: Job, now: float) -> None:
        """Note that a job is being done, for those who watch."""
        folder = self.folder(job.key)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / _RUNNING, to_json({"process": os.getpid(), "since": now}))

    def begun(self) -> set[str]:
        """Keys of all jobs that were ever begun, done or not."""
        try:
            return set(os.listdir(self.root / self.inside))
        except FileNotFoundError:
            return set()

    def running_since(self, job: Job) -> float | None:
        """When a job was begun that is not done, None when it was not; it may have been killed."""
        path = self.folder(job.key) / _RUNNING
        if not path.exists():
            return None
        with contextlib.suppress(InputError):  # another process has ended it just now
            return read_state(_Running, path, self._fix(job.key)).since
        return None


def best_of(runs: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The facts of the run with the least dev loss; None when all diverged."""
    healthy = [run for run in runs if not run["diverged"]]
    return min(healthy, key=lambda run: run["dev_loss"], default=None)


@dataclass
class Failures:
    """Problems of the jobs that could not be done, and the keys of all that will not be done."""

    problems: list[Problem] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)

    def add(self, job: Job, problems: Iterable[Problem]) -> None:
        """A job that could not be done."""
        self.lost.add(job.key)
        self.problems += problems

    def blocks(self, job: Job) -> bool:
        """Whether a job needs one that is lost; it is then lost itself."""
        if not self.lost.intersection(job.before):
            return False
        self.lost.add(job.key)
        return True

    def raise_all(self) -> None:
        """Raises:
        InputError: with every problem, when there is one.
        """
        if self.problems:
            raise InputError(*dict.fromkeys(self.problems))
