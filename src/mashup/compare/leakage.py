"""Donors that have seen the test rows: found by the prompts that our runs leave behind."""

from __future__ import annotations

from collections.abc import Iterable

from mashup.checkpoint import Checkpoint
from mashup.checkpoint.history import read_prompts
from mashup.errors import Problem
from mashup.task import Task


def leaking(checkpoints: Iterable[Checkpoint], task: Task) -> dict[str, Problem]:
    """Path to problem of every checkpoint that was trained on dev or test prompts of ``task``.

    Only what our own ``train`` and ``merge`` made can be told, with what it was started or
    merged from; other checkpoints have no list of prompts.
    """
    held = {example.prompt_key[:16] for example in (*task.dev, *task.test)}
    found = {}
    for checkpoint in checkpoints:
        seen = read_prompts(checkpoint.run)
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
