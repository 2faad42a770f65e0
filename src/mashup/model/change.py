"""What a checkpoint of either kind changes in a loaded base, and whether it fits it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mashup.checkpoint import read_adapter, read_adapter_config
from mashup.checkpoint.read import is_whole
from mashup.delta import Delta, read_delta
from mashup.errors import Problem
from mashup.model.fit import adapter_problems
from mashup.model.whole import read_whole, whole_problem


def read_change(model: Any, folder: Path) -> Delta:
    """A LoRA's factors, or all tensors of a whole model as new values.

    Raises:
        InputError: unreadable, weights that are not finite, or a whole model of another base.
    """
    return read_whole(model, folder) if is_whole(folder) else read_delta(folder)


def change_problems(model: Any, folder: Path) -> list[Problem]:
    """Why a checkpoint does not fit ``model``; empty when it does. From headers and JSON.

    Raises:
        InputError: unreadable.
    """
    if is_whole(folder):
        problem = whole_problem(model, folder)
        return [problem] if problem else []
    config = read_adapter_config(folder)
    return adapter_problems(model, read_adapter(folder, config), config, str(folder))
