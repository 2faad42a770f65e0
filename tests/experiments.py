"""Small leave-one-out experiments: three tasks that are nearly one, few steps, one module kind."""

import json
from pathlib import Path
from typing import Any

import yaml

from helpers import prompt_rows, write_adapter, write_jsonl
from mashup.experiment.settings import Experiment, read_experiment
from mashup.results import read_records

TASKS = ("one", "two", "three")
TRAIN = {"max_steps": 2, "batch_size": 4, "evaluations": 1, "lora_target_modules": "q_proj"}
#: One run an arm.
FEW = {"seeds": [1], "learning_rates": [0.01], "choose": {"samples": 16, "criterion": "loss"}}
#: Sources of a library.
NAMES = ("family/near", "family/far", "other/strange", "other/odd")


def write_tasks(folder: Path) -> Path:
    """Rows that differ in their ends."""
    for n, name in enumerate(TASKS):
        write_jsonl(folder / f"{name}.jsonl", prompt_rows(90, f" {'!' * n}"))
    return folder


def write_experiment(path: Path, base: Path, data: Path, **more: Any) -> Experiment:
    """A YAML file, and the experiment that is read from it."""
    values = {
        "name": "tiny", "base": str(base), "dtype": "float32", "device": "cpu",
        "tasks": {name: str(data / f"{name}.jsonl") for name in TASKS}, "targets": ["one"],
        "train_rows": 40, "dev_rows": 8, "test_rows": 8, "train": TRAIN,
        "learning_rates": [0.02, 0.01], "seeds": [1, 2],
        "choose": {"samples": 16, "criterion": "loss"},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(values | more))
    return read_experiment(path)


def values(folder: Path) -> dict[tuple[Any, ...], float | None]:
    """What an experiment measured, without how long it took."""
    return {
        (r.task, r.arm, r.seed, r.budget, r.step, r.metric, r.donor, r.learning_rate): r.value
        for r in read_records(folder / "records.jsonl")
        if "seconds" not in r.metric
    }


def library_of(folder, names=NAMES, make=write_adapter, **more):
    for seed, name in enumerate(names):
        make(folder / name, seed=seed, **more)
    return folder


def said(folder, task="", prompts=()):
    """A checkpoint that tells its task and the prompts that it was trained on."""
    if task:
        (folder / "mashup.json").write_text(json.dumps({"task": {"name": task}}))
    (folder / "train_prompts.txt").write_text("\n".join(prompts))


def written(tmp_path, base, **more):
    write_tasks(tmp_path)
    values = {"library": str(tmp_path / "library"), "targets": ["one"], **FEW, **more}
    return write_experiment(tmp_path / "x.yaml", base, tmp_path, **values)
