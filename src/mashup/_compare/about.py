"""What a comparison folder is for: noted at its start, so that another one is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mashup._compare.arms import Arm
from mashup._score.scores import Scores
from mashup._select import Selection
from mashup.errors import InputError, Problem
from mashup.files import digest_of, make_folder, to_json, write_text
from mashup.model import Base
from mashup.results.comparison import ABOUT, read_about
from mashup.settings import TrainSettings
from mashup.task import Task


def describe(
    base: Base,
    task: Task,
    scores: Scores,
    selection: Selection,
    settings: TrainSettings,
) -> dict[str, Any]:
    """Base, task, sample, choice and settings of a comparison, JSON-able."""
    return {
        "version": 1,
        "base": base.about,
        "task": {"name": task.name, "digest": task.digest},
        "splits": {"train": len(task.train), "dev": len(task.dev), "test": len(task.test)},
        "sample": {"digest": scores.sample_digest, "examples": scores.examples},
        "sentence": selection.sentence,
        "left_out": [problem.to_json() for problem in scores.left_out],
        "unchanged": [checkpoint.name for checkpoint in scores.unchanged],
        "dropped": task.dropped,
        "left_out_rows": task.left_out | ({"too long": scores.long} if scores.long else {}),
        "criterion": scores.criterion,
        "strategy": scores.strategy,
        "reason": scores.reason,
        "forwards": scores.cost.forwards,
        "exhaustive_forwards": scores.cost.exhaustive,
        "chosen": [score.digest for score in selection.chosen],
        "settings": settings.model_dump(),
    }


def planned_arm(arm: Arm, seed: int) -> dict[str, Any]:
    """What an arm starts from, for the report."""
    parents = [parent.name for parent in arm.parents]
    return {"arm": arm.name, "seed": seed, "parents": parents, "note": arm.note}


def begin(output: Path, about: dict[str, Any]) -> None:
    """Note what the folder is for.

    Raises:
        InputError: it is for another comparison.
    """
    path = output / ABOUT
    known = read_about(output) if path.exists() else about
    if _identity(known) != _identity(about):
        fix = "choose another `output`, or give the settings of that comparison"
        found = "a comparison with other settings, data, checkpoints or seeds"
        raise InputError(Problem("output exists already", str(output), found, "this one", fix))
    make_folder(output)
    write_text(path, to_json(known))


def _identity(about: dict[str, Any]) -> str:
    """Digest of what decides the results; names and what was left out may be told otherwise."""
    told = {"base", "sentence", "left_out", "unchanged", "dropped", "rank"}
    told |= {"version", "left_out_rows", "strategy", "reason", "forwards", "exhaustive_forwards"}
    kept = {key: value for key, value in about.items() if key not in told}
    base = about.get("base", {})
    return digest_of(kept, base.get("digest"), base.get("attention"))
