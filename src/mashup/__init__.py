"""Mashup Learning: start fine-tuning from the best of your past checkpoints (arXiv 2603.10156).

One word a step: :func:`scan`, :func:`load_task`, :func:`score`, :func:`select`,
:func:`merge`, :func:`train`, :func:`race`, :func:`compare`, :func:`report`; :func:`init` is scan
to merge in one call, and :func:`verify` checks what was written. Torch is imported when a step
needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mashup._check import check
    from mashup._convert import convert
    from mashup._init import InitResult, init
    from mashup._merge.merge import Init, merge
    from mashup._push import Published, push
    from mashup._race.race import race
    from mashup._race.record import Race
    from mashup._report.write import Report, report
    from mashup._score.score import score
    from mashup._score.scores import Score, Scores
    from mashup._select import Selection, select
    from mashup._train.record import Run
    from mashup._train.run import train
    from mashup._verify.checks import Check, Verification
    from mashup._verify.verify import verify
    from mashup.checkpoint import Checkpoint, read_checkpoint
    from mashup.errors import GateError, InputError, MashupError, OutputError, Problem, UsageError
    from mashup.experiment.compare import Comparison, compare
    from mashup.experiment.run import ExperimentResult, run_experiment
    from mashup.library import Library, scan
    from mashup.model import Base, load_base
    from mashup.settings import (
        MergeSettings,
        ModuleRule,
        ScoreSettings,
        SelectSettings,
        TrainSettings,
    )
    from mashup.task import Task, load_task

__version__ = "0.1.0"

_HOME = {
    "Base": "mashup.model",
    "Check": "mashup._verify.checks",
    "Checkpoint": "mashup.checkpoint",
    "Comparison": "mashup.experiment.compare",
    "ExperimentResult": "mashup.experiment.run",
    "GateError": "mashup.errors",
    "Init": "mashup._merge.merge",
    "InitResult": "mashup._init",
    "InputError": "mashup.errors",
    "Library": "mashup.library",
    "MashupError": "mashup.errors",
    "MergeSettings": "mashup.settings",
    "ModuleRule": "mashup.settings",
    "OutputError": "mashup.errors",
    "Problem": "mashup.errors",
    "Published": "mashup._push",
    "Race": "mashup._race.record",
    "Report": "mashup._report.write",
    "Run": "mashup._train.record",
    "Score": "mashup._score.scores",
    "ScoreSettings": "mashup.settings",
    "Scores": "mashup._score.scores",
    "SelectSettings": "mashup.settings",
    "Selection": "mashup._select",
    "Task": "mashup.task",
    "TrainSettings": "mashup.settings",
    "UsageError": "mashup.errors",
    "Verification": "mashup._verify.checks",
    "check": "mashup._check",
    "compare": "mashup.experiment.compare",
    "convert": "mashup._convert",
    "init": "mashup._init",
    "load_base": "mashup.model",
    "load_task": "mashup.task",
    "merge": "mashup._merge.merge",
    "push": "mashup._push",
    "race": "mashup._race.race",
    "read_checkpoint": "mashup.checkpoint",
    "report": "mashup._report.write",
    "run_experiment": "mashup.experiment.run",
    "scan": "mashup.library",
    "score": "mashup._score.score",
    "select": "mashup._select",
    "train": "mashup._train.run",
    "verify": "mashup._verify.verify",
}
__all__ = [
    "Base",
    "Check",
    "Checkpoint",
    "Comparison",
    "ExperimentResult",
    "GateError",
    "Init",
    "InitResult",
    "InputError",
    "Library",
    "MashupError",
    "MergeSettings",
    "ModuleRule",
    "OutputError",
    "Problem",
    "Published",
    "Race",
    "Report",
    "Run",
    "Score",
    "ScoreSettings",
    "Scores",
    "SelectSettings",
    "Selection",
    "Task",
    "TrainSettings",
    "UsageError",
    "Verification",
    "check",
    "compare",
    "convert",
    "init",
    "load_base",
    "load_task",
    "merge",
    "push",
    "race",
    "read_checkpoint",
    "report",
    "run_experiment",
    "scan",
    "score",
    "select",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
