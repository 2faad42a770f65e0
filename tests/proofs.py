"""A recipe of the paper in little: its real YAML and real rows, a tiny model, few steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from helpers import BENCHMARKS
from mashup import TrainSettings, load_base, train
from mashup._train.record import Run
from mashup.evaluate.evaluate import sample_tokens
from mashup.experiment.inputs import load
from mashup.experiment.jobs import Job
from mashup.experiment.run import Prepared, prepare, run_jobs
from mashup.experiment.settings import Executor, Experiment, TaskData, read_experiment
from mashup.model import Base
from mashup.results import Record
from mashup.task import Tokens
from papers import TEMPLATES, write_paper_base

RECIPES = Path(__file__).parents[1] / "recipes" / "paper"
#: Files of ``recipes/paper`` that are experiments; the others are what these extend.
NAMES = sorted(path.stem for path in RECIPES.glob("*-*.yaml"))
TARGETS = ("arc_easy", "social_iqa")
#: What the adapters of an outside library were trained on: no target is among it.
OUTSIDE = ("commonsense_qa", "math_qa", "openbookqa", "piqa")
_SAMPLES = 32
_LINES = 150  # of each file of rows
#: Random weights have much to learn in sixteen steps.
_RATES = {"lora": 0.05, "full": 0.01}


@dataclass(frozen=True)
class Proof:
    """One recipe that was run in little, and what came of it."""

    prepared: Prepared
    records: tuple[Record, ...]

    @property
    def experiment(self) -> Experiment:
        return self.prepared.experiment

    @cached_property
    def base(self) -> Base:
        return load_base(self.experiment.base, dtype="float32", device="cpu")

    def jobs(self, kind: str, arm: str = "", *, donors: bool = False) -> list[Job]:
        """Jobs of a kind: of an arm, or those whose weights others start from."""
        jobs = [job for job in self.prepared.plan.jobs.values() if job.kind == kind]
        if donors:
            return [job for job in jobs if job.keeps_weights]
        return [job for job in jobs if arm in job.about["words"]]

    def result(self, job: Job) -> dict[str, Any]:
        """The facts that a job left."""
        return self.prepared.store.result(job.key)

    def folder(self, job: Job) -> Path:
        """The run or the init that a job made."""
        return self.prepared.store.root / self.result(job)["path"]

    def run(self, job: Job) -> Run:
        return Run.open(self.folder(job))

    @cached_property
    def donors(self) -> dict[str, Path]:
        """Task to folder of what was trained on it, here or for the outside library."""
        if self.experiment.library:
            runs = Path(self.experiment.library).glob("*/run.json")
            return {path.parent.name: path.parent for path in runs}
        return {job.about["task"]: self.folder(job) for job in self.jobs("train", donors=True)}

    def parents(self, job: Job) -> list[Path]:
        """Folders of what an init was merged from."""
        return [self.donors[name] for name in self.result(job)["parents"]]

    def sample(self, job: Job) -> tuple[Tokens, ...]:
        """The examples that a job's target was scored on."""
        of, task = self.experiment, load(self.experiment, job.about["task"])
        return sample_tokens(self.base, task, _SAMPLES, of.split_seed, of.train.max_length)


def prove(name: str, folder: Path) -> Proof:
    """Run ``recipes/paper/NAME.yaml`` in little, in ``folder``."""
    recipe = read_experiment(RECIPES / f"{name}.yaml")
    little = _shrunk(recipe, folder, {n: _few(n, folder / "data" / n) for n in recipe.tasks})
    rows = (row for name in little.tasks for row in load(little, name).train)
    texts = [message.content for row in rows for message in row.messages]
    write_paper_base(Path(little.base), family_of(recipe), texts)
    if little.library:
        _write_library(little)
    prepared = prepare(little, folder / "out")
    return Proof(prepared, run_jobs(prepared))


def family_of(recipe: Experiment) -> str:
    """Which of the tiny models stands for a recipe's base."""
    name = recipe.base.rpartition("/")[2].lower()
    return next(family for family in TEMPLATES if name.startswith(family))


def _few(task: str, folder: Path) -> Path:
    """Short rows of a benchmark's files."""
    folder.mkdir(parents=True)
    for path in (BENCHMARKS / task).glob("*.jsonl"):
        with path.open(encoding="utf-8") as lines:
            few = sorted(islice(lines, 4 * _LINES), key=len)[:_LINES]
        (folder / path.name).write_text("".join(few), encoding="utf-8")
    return folder


def _shrunk(recipe: Experiment, folder: Path, data: dict[str, Path]) -> Experiment:
    """The recipe with sizes for a tiny model; arms, choice, merge and the rest are its own."""
    library = str(folder / "library") if recipe.library else None
    few = {"batch_size": 4, "evaluations": 1}
    little = {
        "base": str(folder / "base"), "library": library, "dtype": "float32", "device": "cpu",
        "tasks": {task: TaskData(dataset=str(rows)) for task, rows in data.items()},
        "targets": TARGETS, "train_rows": 64, "dev_rows": 8, "test_rows": 8, "seeds": (42,),
        "learning_rates": (_RATES[recipe.train.finetuning_type],), "draws": 1,
        "train": recipe.train.model_copy(update=few), "executor": Executor(),
        "choose": recipe.choose.model_copy(update={"samples": _SAMPLES}),
    }  # fmt: skip
    return Experiment.model_validate_json(recipe.model_copy(update=little).model_dump_json())


def _write_library(little: Experiment) -> None:
    """LoRAs of the recipe's rank that were trained elsewhere."""
    base = load_base(little.base, dtype="float32", device="cpu")
    rate = {"learning_rate": little.learning_rates[0]}
    settings = TrainSettings(**little.train.model_dump() | rate)
    for name in OUTSIDE:
        train(base, load(little, name), output=f"{little.library}/{name}", settings=settings)


def plain_loss(model: Any, sample: Iterable[Tokens]) -> float:
    """Nats per answer token by whole forward passes of one example each, nothing of ours."""
    total = count = 0.0
    for tokens in sample:
        ids = torch.tensor([tokens.ids])
        with torch.no_grad():
            logits = model.eval()(input_ids=ids).logits[0, :-1]
        answer = torch.tensor(tokens.answer[1:])
        total += float(F.cross_entropy(logits[answer], ids[0, 1:][answer], reduction="sum"))
        count += int(answer.sum())
    return total / count
