"""What one run is: the base, the task's tokens, the start, the settings and the folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mashup._train.trainer import steps_of
from mashup.errors import Problem, UsageError
from mashup.evaluate.evaluate import Evaluation, sample_digest
from mashup.files import digest_of
from mashup.model import Base
from mashup.processes import process_count
from mashup.progress import SILENT, Progress
from mashup.results.curve import Point
from mashup.settings import TrainSettings
from mashup.task import Task, Tokens, tokenize


@dataclass(frozen=True)
class RunTokens:
    """Token ids of the three splits, made before anything is written.

    Attributes:
        long: how many rows of each split were left out because they are too long.
    """

    train: tuple[Tokens, ...]
    dev: tuple[Tokens, ...]
    test: tuple[Tokens, ...]
    long: Mapping[str, int] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Digest of all token ids: it changes with examples, splits, tokenizer and template."""
        return digest_of(*(sample_digest(split) for split in (self.train, self.dev, self.test)))


def run_tokens(base: Base, task: Task, settings: TrainSettings) -> RunTokens:
    """Tokenize a task for a run.

    Raises:
        InputError: a row is too long, or its prompt is no token prefix of the row.
        UsageError: rows with pictures in several processes.
    """
    if task.sees and process_count() > 1:
        found, fix = f"{process_count()} processes", "start it without accelerate"
        raise UsageError(
            Problem("pictures in several processes", task.name, found, "one process", fix)
        )
    longest = min(settings.max_length, base.context)

    def made(split: str) -> tuple[Tokens, ...]:
        where, rows = f"{task.name} ({split})", getattr(task, split)
        return tokenize(
            base.tokenizer, rows, max_length=longest, where=where, drop_long=task.drop_long,
            processor=base.processor,
        )  # fmt: skip

    tokens = {split: made(split) for split in ("train", "dev", "test")}
    long = {split: len(getattr(task, split)) - len(tokens[split]) for split in tokens}
    return RunTokens(**tokens, long={split: count for split, count in long.items() if count})


@dataclass(frozen=True)
class Work:
    """One run whose input has been read.

    Attributes:
        init: folder of the start; None to train from the base.
        output: folder of the run.
    """

    base: Base
    task: Task
    tokens: RunTokens
    init: Path | None
    settings: TrainSettings
    output: Path

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return steps_of(len(self.tokens.train), self.settings)


@dataclass(frozen=True)
class Ways:
    """How a run is done; nothing here changes its result.

    Attributes:
        accept_base: take an init that names no base or another one.
        callbacks: transformers' TrainerCallbacks.
        report_to: trackers as transformers names them.
        progress: where to show a bar.
        until: stop at this step of the curve with a resume point; None for the end of the run.
        on_point: called with every point of the curve and its dev values.
    """

    accept_base: bool = False
    callbacks: Sequence[Any] = ()
    report_to: str = "none"
    progress: Progress = SILENT
    until: int | None = None
    on_point: Callable[[Point, Evaluation], None] | None = None
