"""Train the library that choosing is measured on: eight tasks, several runs of each, some wrong.

    python benchmarks/choosing/library.py DATA LIBRARY [WORKER WORKERS]

``DATA`` holds ``<task>/{train,validation}.jsonl``. A run that is there already is kept, so a
killed call goes on where it was; several workers share the runs between them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from mashup import TrainSettings, load_base, load_task
from mashup.demo.base import demo_base
from mashup.experiment.work import with_shuffled_answers
from mashup.task import Task

BATCH = 8
ROWS = 24 * BATCH  # of training: the longest run sees each once


@dataclass(frozen=True)
class Recipe:
    """One run: how it is trained, and after which steps it is kept beside its end."""

    task: str
    kind: str
    settings: TrainSettings
    kept: tuple[int, ...] = ()
    shuffled: bool = False

    @property
    def name(self) -> str:
        return f"{self.task}-{self.kind}"


def recipes(tasks: list[str]) -> Iterator[Recipe]:
    """Two long runs and a short one of each task, one on shuffled labels, two that went wrong."""
    for task in tasks:
        yield Recipe(task, "high", _settings(24, 1e-3, 8, 0), (6, 12))
        yield Recipe(task, "low", _settings(24, 5e-4, 16, 1), (6, 12))
        yield Recipe(task, "short", _settings(12, 1e-3, 8, 2), (4, 8))
        yield Recipe(task, "shuffled", _settings(12, 1e-3, 8, 3), (), shuffled=True)
    for task in tasks[:2]:
        yield Recipe(task, "burnt", _settings(12, 2e-2, 8, 4))


def _settings(steps: int, rate: float, rank: int, seed: int) -> TrainSettings:
    return TrainSettings(
        max_steps=steps, learning_rate=rate, lora_r=rank, lora_alpha=2 * rank, seed=seed,
        batch_size=BATCH, evaluations=1,
    )  # fmt: skip


class Keeper(TrainerCallback):
    """Saves the adapter after some steps, as trainers do."""

    def __init__(self, folder: Path, steps: tuple[int, ...]) -> None:
        self._folder, self._steps = folder, steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step in self._steps:
            kwargs["model"].save_pretrained(self._folder / f"checkpoint-{state.global_step}")


def load(data: Path, name: str) -> Task:
    """A task of ``data`` with few held-out rows: donors are not judged by them here."""
    folder = data / name
    return load_task(
        folder / "train.jsonl", test=folder / "validation.jsonl", name=name,
        train_rows=ROWS, dev_rows=8, test_rows=8,
    )  # fmt: skip


def main(data: Path, library: Path, worker: int = 0, workers: int = 1) -> None:
    import mashup

    base = load_base(demo_base())
    tasks = sorted(path.name for path in data.iterdir() if path.is_dir())
    for recipe in list(recipes(tasks))[worker::workers]:
        task = load(data, recipe.task)
        task = with_shuffled_answers(task, 0) if recipe.shuffled else task
        output = library / recipe.name
        keeper = Keeper(output, recipe.kept)
        run = mashup.train(base, task, output=output, settings=recipe.settings, callbacks=[keeper])
        print(recipe.name, f"{run.record['train_seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
