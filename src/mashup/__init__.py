"""Mashup Learning: start fine-tuning from the best of your past checkpoints (arXiv 2603.10156).

One word a step: :func:`scan`, :func:`load_task`, :func:`score`, :func:`select`,
:func:`merge`, :func:`train`, :func:`compare`. Torch is imported when a step needs it.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mashup.check import check
    from mashup.checkpoint import Checkpoint, read_checkpoint
    from mashup.compare import Comparison, compare
    from mashup.convert import convert
    from mashup.errors import GateError, InputError, MashupError, OutputError, Problem, UsageError
    from mashup.library import Library, scan
    from mashup.merge.merge import Init, merge
    from mashup.model import Base, load_base
    from mashup.score.result import Score
    from mashup.score.score import score
    from mashup.score.scores import Scores
    from mashup.select import Selection, select
    from mashup.settings import TrainSettings
    from mashup.task import Task, load_task
    from mashup.train import Run, train

__version__ = "0.1.0"

_HOME = {
    "mashup.check": ("check",),
    "mashup.checkpoint": ("Checkpoint", "read_checkpoint"),
    "mashup.compare": ("Comparison", "compare"),
    "mashup.convert": ("convert",),
    "mashup.errors": (
        *("GateError", "InputError", "MashupError", "OutputError", "Problem", "UsageError"),
    ),
    "mashup.library": ("Library", "scan"),
    "mashup.merge": ("Init", "merge"),
    "mashup.model": ("Base", "load_base"),
    "mashup.score": ("Score", "Scores", "score"),
    "mashup.select": ("Selection", "select"),
    "mashup.task": ("Task", "load_task"),
    "mashup.settings": ("TrainSettings",),
    "mashup.train": ("Run", "train"),
}
__all__ = [
    "Base",
    "Checkpoint",
    "Comparison",
    "GateError",
    "Init",
    "InputError",
    "Library",
    "MashupError",
    "OutputError",
    "Problem",
    "Run",
    "Score",
    "Scores",
    "Selection",
    "Task",
    "TrainSettings",
    "UsageError",
    "check",
    "compare",
    "convert",
    "load_base",
    "load_task",
    "merge",
    "read_checkpoint",
    "scan",
    "score",
    "select",
    "train",
]


def lazily(package: str, homes: Mapping[str, Sequence[str]]) -> None:
    """Import the names of a package when they are first used.

    A name may be that of a module as well (``mashup.score``, ``mashup.merge.merge``). Python
    binds a module to its package when it is first imported, from wherever: that binding is not
    wanted where the name stands for a function.

    Args:
        package: whose names they are.
        homes: module to the names that it defines.
    """
    where = {name: module for module, names in homes.items() for name in names}

    class Lazy(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name not in where:
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
            value = getattr(importlib.import_module(where[name]), name)
            setattr(self, name, value)
            return value

        def __setattr__(self, name: str, value: Any) -> None:
            if not (name in where and isinstance(value, types.ModuleType)):
                super().__setattr__(name, value)

        def __dir__(self) -> list[str]:
            return sorted({*super().__dir__(), *where})

    sys.modules[package].__class__ = Lazy


lazily(__name__, _HOME)
