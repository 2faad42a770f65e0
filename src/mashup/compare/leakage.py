"""Donors that have seen the test rows: found by the prompts that our runs leave behind."""

from __future__ import annotations

from collections.abc import Iterable

from mashup.checkpoint import Checkpoint
from mashup.errors import Problem
from mashup.task import Task
from mashup.train.loop import PROMPTS


def leaking(checkpoints: Iterable[Checkpoint], task: Task) -> dict[str, Problem]:
    """Path to problem of every checkpoint that was trained on dev or test prompts of ``task``.

    Only checkpoints that our own ``train`` made can be told; others have no list of prompts.
    """
    held = {example.prompt_key[:16] for example in (*task.dev, *task.test)}
    found = {}
    for checkpoint in checkpoints:
        seen = _prompts(checkpoint)
        if seen & held:
            share = len(seen & held) / len(held)
            found[str(checkpoint.path)] = Problem(
                "trained on the held-out rows",
                str(checkpoint.path),
                f"{share:.0%} of the dev and test prompts",
                "none of them",
                "its gain would be memory; it is left out of the comparison",
            )
    return found


def _prompts(checkpoint: Checkpoint) -> frozenset[str]:
    path = checkpoint.run / PROMPTS
    return frozenset(path.read_text().split()) if path.exists() else frozenset()
