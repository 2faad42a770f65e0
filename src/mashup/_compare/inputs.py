"""What a comparison may be asked, and which checkpoints it may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mashup._compare.arms import unread
from mashup._merge.methods import METHODS
from mashup.errors import InputError, Problem, UsageError
from mashup.faults import resolved
from mashup.library import Library
from mashup.library.leakage import leaking
from mashup.settings import MergeSettings, TrainSettings
from mashup.task import Task


def check_values(seeds: Sequence[int], budgets: Sequence[float], rates: Sequence[float]) -> None:
    """Refuse values that cannot be, all at once."""
    problems = []
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        problems.append(Problem("bad setting", "`seeds`", str(list(seeds)), "different, 0 or more"))
    if not all(0 < budget <= 1 for budget in budgets):
        found, expected = str(list(budgets)), "shares of the steps, above 0 and at most 1"
        problems.append(Problem("bad setting", "`budgets`", found, expected))
    if not all(rate > 0 for rate in rates):
        problems.append(Problem("bad setting", "`learning_rates`", str(list(rates)), "above 0"))
    if problems:
        raise UsageError(*problems)


def usable(
    library: Library, task: Task, settings: TrainSettings
) -> tuple[Library, tuple[Problem, ...]]:
    """What may be scored, and what may not, with the reason.

    Raises:
        InputError: nothing is left.
    """
    trainable, wholes = _trainable(library, settings)
    clean, leaks = _without_leaks(trainable, task)
    return clean, (*wholes, *leaks)


def _trainable(library: Library, settings: TrainSettings) -> tuple[Library, tuple[Problem, ...]]:
    """A LoRA starts from LoRAs; all weights can start from both.

    Raises:
        InputError: whole models alone, and a LoRA is to be trained.
    """
    if settings.is_full:
        return library, ()
    loras = tuple(c for c in library.checkpoints if c.kind == "lora")
    fix = "give `finetuning_type` full to train all weights"
    problems = tuple(
        Problem("whole model", str(c.path), "all weights", "a LoRA, since a LoRA is trained", fix)
        for c in library.checkpoints
        if c.kind == "full"
    )
    if not loras:
        raise InputError(*problems)
    return replace(library, checkpoints=loras), problems


def _without_leaks(library: Library, task: Task) -> tuple[Library, tuple[Problem, ...]]:
    leaks = leaking(library.usable, task)
    kept = tuple(c for c in library.checkpoints if str(c.path) not in leaks)
    if leaks and not any(c.usable for c in kept):
        raise InputError(*leaks.values())
    return replace(library, checkpoints=kept), tuple(leaks.values())


def check_arms(arms: Sequence[str], settings: TrainSettings) -> None:
    """Refuse arms that the settings leave without a value.

    Raises:
        UsageError: an arm is judged on test rows that are not read.
    """
    if reason := unread(settings.test_points, arms):
        fix = "give another `test_points`, or other `arms`"
        raise UsageError(Problem("arm without test values", "`test_points`", reason, fix=fix))


def check_merging(options: dict[str, Any]) -> None:
    """Refuse, before any work, what would fail when the first arm is merged.

    Raises:
        UsageError: an unknown method, numbers that cannot be, or a weight for each parent.
    """
    method = options.get("method", "linear")
    if method not in METHODS:
        raise UsageError(Problem("unknown method", "`method`", method, ", ".join(METHODS)))
    settings = resolved(MergeSettings, None, options, "merge_options")
    wrong = METHODS[method].problems(settings, METHODS[method].parents[0])
    if wrong:
        raise UsageError(*wrong)
    if not isinstance(options.get("weights", "uniform"), str):
        found, expected = str(options["weights"]), "uniform or loss: arms have 1, 2 or k parents"
        raise UsageError(Problem("bad weights", "`weights`", found, expected))
