"""Mashup Learning: start fine-tuning from the best of your past checkpoints (arXiv 2603.10156).

One word a step: :func:`scan`, :func:`load_task`, :func:`score`, :func:`select`,
:func:`merge`, :func:`train`, :func:`compare`. Torch is imported when a step needs it.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mashup.check import check
    from mashup.checkpoint import Checkpoint, read_checkpoint
    from mashup.compare import Comparison, compare
    from mashup.convert import convert
    from mashup.errors import GateError, InputError, MashupError, OutputError, Problem, UsageError
    from mashup.library import Library, scan
    from mashup.merge import Init, merge
    from mashup.model import Base, load_base
    from mashup.score import Score, Scores, score
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
_WHERE = {name: module for module, names in _HOME.items() for name in names}

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


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'mashup' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(types.ModuleType):
    """``mashup.score`` is the function, though a package of that name exists as well.

    Python binds a subpackage to its parent when it is first imported, from wherever; where
    the function of the step has the same name, that binding is not wanted.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _WHERE and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
