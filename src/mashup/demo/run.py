"""The demo's whole flow: base, tasks, a library that is trained for real, and an experiment.

The long steps are ordinary ``mashup`` commands. Two run at a time, each with half of the cores: on
a small model two runs of one thread are faster than one run of two threads.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mashup.demo.base import demo_base
from mashup.demo.data import TARGET, DemoTask, build_tasks
from mashup.errors import InputError, Problem
from mashup.experiment.run import JOBS, ExperimentResult, run_experiment
from mashup.outputs import only_one, to_json, write_text
from mashup.progress import SILENT, Progress, duration
from mashup.settings import ArmName

_Words = list[str | Path]
_AT_ONCE = 2  # commands
_POLL = 0.1  # seconds between two looks at which command has ended
_DEV = 16  # dev rows of a source, and of the target
_TEST = 8  # test rows of a source; they are not read
#: How sources are trained: one pass over their rows.
_SOURCES = (
    *("--batch-size", "16", "--epochs", "1", "--learning-rate", "1e-3"),
    *("--evaluations", "2", "--test-points", "none"),
    *("--dev-rows", str(_DEV), "--test-rows", str(_TEST)),
)
_NOTE = (
    "This is the demo. Its sources were trained in two minutes on a few hundred rows each, and "
    "each run of the target takes about one minute. It shows what the tool does on a small task, "
    "not how much it gains in general."
)


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        sources: name of each source's task to its training rows.
        labels: training rows of the target.
        more: rows of a second run from scratch, to see how many labels a start saves; 0: no run.
        test: test rows of the target.
        steps: of a run on the target, with batches of 8.
        criterion: what sources are ranked by.
    """

    sources: Mapping[str, int]
    labels: int
    more: int
    test: int
    steps: int
    seeds: tuple[int, ...]
    arms: tuple[ArmName, ...]
    criterion: str = "auto"


FULL = Size(
    sources={
        "film_sentiment": 384,
        "tweet_sentiment": 288,
        "film_sentiment_swapped": 320,
        "text_source": 64,
        "first_person": 64,
    },
    labels=48,
    more=192,
    test=200,
    steps=24,
    seeds=(42, 43),
    arms=("scratch", "mashup", "race", "merged-untrained"),
)
QUICK = Size(
    sources={"film_sentiment": 64, "tweet_sentiment": 64, "text_source": 48},
    labels=24,
    more=0,
    test=32,
    steps=6,
    seeds=(42,),
    arms=("scratch", "mashup", "merged-untrained"),
    criterion="loss",  # sources of four steps know next to nothing; this shows all parts at work
)


def run_demo(
    output: str | Path,
    *,
    quick: bool = False,
    model: str | None = None,
    progress: Progress = SILENT,
) -> ExperimentResult:
    """Train a small library on old tasks, then compare starts for a new one.

    The same call again continues a demo that was stopped.

    Args:
        output: folder for tasks, library and experiment.
        quick: a smaller run, for a first look and for CI.
        model: another base than SmolLM2-135M-Instruct from PyPI.
        progress: shows a line for each step of each command.

    Raises:
        InputError: PyPI cannot be reached; a command failed; ``output`` is being written.
    """
    output, size = Path(output).absolute(), QUICK if quick else FULL
    with only_one(output):
        with _reported("base", "the first time it is fetched and converted", progress):
            base = model or str(demo_base(progress=progress))
        rows = {TARGET: max(size.labels, size.more) + _DEV}
        rows |= {name: count + _DEV + _TEST for name, count in size.sources.items()}
        with _reported(
            "tasks", "rated sentences on films, products and news, and tweets", progress
        ):
            tasks = build_tasks(output / "tasks", rows, test_rows=size.test, progress=progress)
        library = output / "library"
        _run_all([_source(tasks[n], base, library / n) for n in size.sources], progress)
        _run_all([_score(tasks[TARGET], base, library, size)], progress)
        return _experiment(base, output, size, progress)


@contextmanager
def _reported(name: str, about: str, progress: Progress) -> Iterator[None]:
    """A line when a step begins, and one with its duration when it is done."""
    progress.say(f"{name}: {about}")
    since = time.monotonic()
    yield
    progress.say(f"{name}: done in {duration(time.monotonic() - since)}")


# -- the steps


@dataclass(frozen=True)
class _Command:
    """A ``mashup`` command.

    Attributes:
        name, about: what lines call it, and what it does.
        words: its arguments.
        is_shown: whether its result is shown too, on stderr.
    """

    name: str
    about: str
    words: _Words
    is_shown: bool = False


def _source(task: DemoTask, base: str, output: Path) -> _Command:
    words: _Words = [
        "train",
        "--model",
        base,
        "--dataset",
        task.train,
        *_SOURCES,
        "--output",
        output,
    ]
    return _Command(task.name, f"library, {task.kind}: {task.about}", words)


def _score(task: DemoTask, base: str, library: Path, size: Size) -> _Command:
    words: _Words = ["score", library, "--model", base, "--dataset", task.train]
    words += ["--test-dataset", task.test, "--train-rows", str(size.labels)]
    words += ["--dev-rows", str(_DEV), "--samples", str(size.labels)]
    words += ["--criterion", size.criterion]
    return _Command("score", f"who knows the new task: {task.about}?", words, is_shown=True)


def _experiment(base: str, output: Path, size: Size, progress: Progress) -> ExperimentResult:
    """Each seed as a command of its own, and then all of it from their jobs."""
    whole = output / "experiment"
    commands = []
    for seed in size.seeds:
        path = output / f"seed{seed}.json"
        write_text(path, to_json(_settings(base, output, size, (seed,))))
        words: _Words = ["loo", path, "--output", output / f"seed{seed}"]
        commands.append(_Command(f"seed {seed}", f"train {', '.join(size.arms)}", words))
    _run_all(commands, progress)
    for seed in size.seeds:
        for job in (output / f"seed{seed}" / JOBS).iterdir():
            if job.is_dir():
                shutil.copytree(job, whole / JOBS / job.name, dirs_exist_ok=True)
    with _reported("page", "records, tables and pictures", progress):
        return run_experiment(_settings(base, output, size, size.seeds), output=whole)


def _settings(base: str, output: Path, size: Size, seeds: Sequence[int]) -> dict[str, Any]:
    """An experiment with one target: at its number of labels, and from scratch with more."""
    data = output / "tasks" / TARGET
    target = {"dataset": str(data / "train.jsonl"), "test_dataset": str(data / "test.jsonl")}
    tasks: dict[str, Any] = {TARGET: target}
    if size.more:
        tasks[f"{TARGET}@{size.more}"] = {
            "train_rows": size.more, "max_steps": 2 * size.steps, "arms": ["scratch"],
        }  # fmt: skip
    return {
        "name": "demo",
        "note": _NOTE,
        "base": base,
        "library": str(output / "library"),
        "tasks": tasks,
        "train_rows": size.labels,
        "dev_rows": _DEV,
        "test_rows": size.test,
        "train": {
            "batch_size": 8, "max_steps": size.steps, "evaluations": 4, "test_points": "end",
            "keep": "best",
        },
        "learning_rates": [5e-4],
        "seeds": list(seeds),
        "control_seeds": list(seeds),
        "arms": list(size.arms),
        "choose": {"k": 2, "samples": size.labels, "criterion": size.criterion},
    }  # fmt: skip


# -- commands


@dataclass(frozen=True)
class _Running:
    """A command that was started.

    Attributes:
        lines: shows what the command writes on stderr, and ends with it.
        since: of the monotonic clock, seconds.
    """

    command: _Command
    process: subprocess.Popen[str]
    lines: threading.Thread
    since: float

    def wait(self) -> None:
        """Until it has ended and its last line is shown."""
        self.process.wait()
        self.lines.join()


def _run_all(commands: Sequence[_Command], progress: Progress) -> None:
    """Run commands, two at a time, and show a line for each step of each.

    Raises:
        InputError: one of them failed; the others are stopped.
    """
    waiting, running = list(commands), list[_Running]()
    try:
        while waiting or running:
            while waiting and len(running) < _AT_ONCE:
                running.append(_begin(waiting.pop(0), progress))
            time.sleep(_POLL)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                one.wait()
                _check(one)
                took = duration(time.monotonic() - one.since)
                progress.say(f"{one.command.name}: done in {took}")
    finally:  # commands end as with Ctrl-C, and keep what they have
        for one in running:
            one.process.terminate()
        for one in running:
            one.wait()


def _check(ended: _Running) -> None:
    if code := ended.process.returncode:
        fix = "see its lines above; the same command again continues"
        found = f"exit code {code}"
        raise InputError(Problem("a step failed", ended.command.name, found, fix=fix))


def _begin(command: _Command, progress: Progress) -> _Running:
    """Start a command; its lines on stderr are shown under its name."""
    progress.say(f"{command.name}: {command.about}")
    threads = str(max(1, (os.cpu_count() or 1) // _AT_ONCE))
    process = subprocess.Popen(
        [sys.executable, "-m", "mashup.cli", *command.words],
        env=os.environ | {"OMP_NUM_THREADS": threads},
        stdout=sys.stderr if command.is_shown else subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, errors="replace",
    )  # fmt: skip

    def show() -> None:
        assert process.stderr
        with process.stderr:
            for line in process.stderr:
                progress.say(f"{command.name}: {line.rstrip()}")

    lines = threading.Thread(target=show, daemon=True)
    lines.start()
    return _Running(command, process, lines, time.monotonic())
