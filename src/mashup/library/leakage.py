"""Donors that have seen a task's dev or test rows: the one check of all verbs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from mashup.checkpoint import Checkpoint
from mashup.checkpoint.history import read_prompts
from mashup.errors import InputError, Problem
from mashup.library.scan import Library
from mashup.task import Task, asked_prompts

_SHOWN = 3  # names in a note


def share_seen(trained_on: Collection[str], task: Task) -> float:
    """Share of the dev and test prompts of ``task`` that are among those trained on.

    Args:
        trained_on: keys, as :func:`mashup.task.taught_prompts` gives them.
        task: that results are measured on.
    """
    held = asked_prompts(task.dev) | asked_prompts(task.test)
    return len(held.intersection(trained_on)) / max(1, len(held))


def leak(where: str, share: float) -> Problem:
    """The problem of a donor that was trained on this share of the dev and test prompts."""
    return Problem(
        "trained on the held-out rows",
        where,
        f"{share:.0%} of the dev and test prompts",
        "none of them",
        "its gain would be memory; it is left out of the comparison",
    )


def leaking(checkpoints: Iterable[Checkpoint], task: Task) -> dict[str, Problem]:
    """Path to problem of every checkpoint that was trained on dev or test prompts of ``task``.

    Only what our own ``train`` and ``merge`` made can be checked, together with what it was
    started or merged from; other checkpoints have no list of prompts.
    """
    shares = {str(c.path): share_seen(read_prompts(c.run), task) for c in checkpoints}
    return {path: leak(path, share) for path, share in shares.items() if share}


def usable_sources(
    library: Library, task: Task, *, is_full: bool
) -> tuple[Library, tuple[Problem, ...]]:
    """What a run on ``task`` may start from, and what it may not, with the reason.

    A LoRA starts from LoRAs; all weights start from both. A checkpoint that was trained on dev or
    test prompts of the task is left out: its gain would be memory.

    Args:
        library: what is there.
        task: that is trained on.
        is_full: whether all weights are trained.

    Raises:
        InputError: nothing is left.
    """
    fix = "give `finetuning_type` full to train all weights"
    wrong_kind = tuple(
        Problem(
            "full checkpoint", str(c.path), "all weights", "a LoRA, since a LoRA is trained", fix
        )
        for c in library.checkpoints
        if c.kind == "full" and not is_full
    )
    kept = tuple(c for c in library.checkpoints if is_full or c.kind == "lora")
    leaks = leaking((c for c in kept if c.usable), task)
    clean = tuple(c for c in kept if str(c.path) not in leaks)
    left_out = (*wrong_kind, *leaks.values())
    if (leaks and not any(c.usable for c in clean)) or (wrong_kind and not kept):
        raise InputError(*left_out)
    return replace(library, checkpoints=clean), left_out


def leak_note(checkpoints: Iterable[Checkpoint], task: Task) -> str:
    """What to say where such checkpoints may be used, "" where there are none."""
    names = [Path(path).name for path in leaking(checkpoints, task)]
    if not names:
        return ""
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return (
        f"note: {shown} ({len(names)} in all) trained on dev or test rows of {task.name}: results "
        "on these rows after a start from them are memory; compare and loo leave them out"
    )
