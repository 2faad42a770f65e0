"""What a folder tells of the training behind it: task, metric, best step.

Sources, best first: our own ``mashup.json``; ``trainer_state.json`` and
``all_results.json`` as transformers' Trainer writes them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mashup.errors import InputError, Problem
from mashup.files import read_json
from mashup.strict import read_plain

MANIFEST = "mashup.json"
PROMPTS = "train_prompts.txt"
TRAINER_STATE = "trainer_state.json"
RESULTS = "all_results.json"
_HUGE = 1e300
_LONGEST_HEAD = 20_000  # characters; cards are written by hand
_MOST_LISTS = 500  # brackets; the time that PyYAML takes for nested ones is quadratic
_STEP = re.compile(r"^checkpoint-(\d+)$")
_WANTED = ("test_accuracy", "eval_accuracy", "test_loss", "eval_loss", "train_loss", "loss")


def step_of(folder: Path) -> int | None:
    """N of a folder that is called ``checkpoint-N``, else None."""
    match = _STEP.match(folder.name)
    return int(match[1]) if match else None


def run_of(folder: Path) -> Path:
    """The folder of the run that a checkpoint folder belongs to."""
    return folder.parent if step_of(folder) is not None else folder


def read_task(folder: Path) -> str:
    """Name of the task that a checkpoint was trained on, "" when the folder does not say."""
    task = read_manifest(folder).get("task") or {}
    return str(task.get("name") or "") if isinstance(task, Mapping) else str(task)


def read_base(folder: Path, config: Mapping[str, Any] | None = None) -> str:
    """Name of the base that a full checkpoint was trained from, "" when the folder does not say.

    From our ``mashup.json``, the head of the model card (``base_model``), or the
    ``_name_or_path`` that older versions of transformers left in ``config.json``, which is
    ``config`` where it has been read.
    """
    config = _optional(folder / "config.json") if config is None else config
    card = card_head(folder).get("base_model")
    named = card[0] if isinstance(card, list) and card else card
    for name in (read_manifest(folder).get("base"), named, config.get("_name_or_path")):
        if isinstance(name, str) and name.strip() and not _is_self(name, folder):
            return name.strip()
    return ""


def _is_self(name: str, folder: Path) -> bool:
    return Path(name).absolute() == folder.absolute()


def card_head(folder: Path) -> dict[str, str | list[str]]:
    """Texts, and lists of texts, in the YAML head of a model card; empty if it is unreadable."""
    try:
        text = read_plain(folder / "README.md").decode(errors="replace")
        head = text.split("---", 2)[1] if text.startswith("---") else ""
        values = yaml.safe_load(head) if _is_simple(head) else {}
    except (OSError, IndexError, RecursionError, ValueError, yaml.YAMLError):
        return {}
    pairs = values.items() if isinstance(values, dict) else ()
    return {key: value for key, value in pairs if isinstance(key, str) and _is_plain(value)}


def _is_simple(head: str) -> bool:
    """Not so long or so nested that PyYAML would take seconds for it."""
    return len(head) < _LONGEST_HEAD and sum(map(head.count, "[{")) < _MOST_LISTS


def _is_plain(value: Any) -> bool:
    """A text, or a list of texts, that can be written again."""
    texts = value if isinstance(value, list) else [value]
    return all(isinstance(text, str) and text.isprintable() for text in texts)


def read_metric(folder: Path) -> tuple[str, float] | None:
    """Name and value of the most telling metric that the folder holds."""
    manifest = read_manifest(folder).get("metrics")
    log = _optional(folder / TRAINER_STATE).get("log_history")
    logged: dict[str, Any] = {}
    for entry in log if isinstance(log, list) else []:
        logged |= entry if isinstance(entry, dict) else {}
    for source in (manifest, _optional(folder / RESULTS), logged):
        values = source if isinstance(source, dict) else {}
        for name in _WANTED:
            if _is_finite(values.get(name)):
                return name, float(values[name])
    return None


def _is_finite(value: Any) -> bool:
    """Whether it is a number that JSON can carry; a diverged run logs NaN."""
    return isinstance(value, int | float) and abs(value) < _HUGE


def read_best_step(folder: Path) -> int | None:
    """Step of the run's best checkpoint by ``trainer_state.json``, None when it does not say."""
    state = _optional(folder / TRAINER_STATE)
    best = state.get("best_model_checkpoint")
    if best:
        return step_of(Path(str(best).replace("\\", "/")))
    step = state.get("best_global_step")
    return step if isinstance(step, int) else None


def read_manifest(folder: Path) -> dict[str, Any]:
    """Our own ``mashup.json`` of a folder; empty where there is none, or none that can be read."""
    return _optional(folder / MANIFEST)


def _optional(path: Path) -> dict[str, Any]:
    if not os.path.isfile(path):  # most are not there
        return {}
    try:
        value = read_json(path)
    except InputError:
        return {}
    return value if isinstance(value, dict) else {}


def read_prompts(folder: Path) -> frozenset[str]:
    """Short keys of the prompts that a checkpoint was trained on, as our own folders list them.

    Raises:
        InputError: the list is there and cannot be read: who forgets it may test on it.
    """
    path = folder / PROMPTS
    if not os.path.lexists(path):
        return frozenset()
    try:
        return frozenset(read_plain(path).decode("ascii").split())
    except (OSError, UnicodeDecodeError) as error:
        fix = "copy the file of the run again"
        raise InputError(Problem("cannot read file", str(path), str(error), fix=fix)) from error
