"""What one run is: on which base, with which rows, from what, and where it is left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mashup._train.tokens import RunTokens
from mashup._train.trainer import steps_of
from mashup.model import Base
from mashup.settings import TrainSettings
from mashup.task import Task


@dataclass(frozen=True)
class Work:
    """One run, its input read.

    Attributes:
        init: folder that it starts from, None for the base.
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
