"""Which checkpoints of a library can be used with a base, and which are left out and why.

Mixed folders are usual, so a checkpoint that names another base is left out. One that is broken,
or that names no base, is skipped and counted; a strict caller stops at it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mashup.checkpoint import FOREIGN, Checkpoint
from mashup.checkpoint.fit import UNNAMED, identity_problem
from mashup.errors import InputError, Problem


@dataclass(frozen=True)
class Fitting:
    """``used`` fit the base; ``left_out`` are for another base, or broken."""

    used: tuple[Checkpoint, ...]
    left_out: tuple[Problem, ...]


def fitting(
    checkpoints: Iterable[Checkpoint], base: str, *, accept_base: bool, strict: bool
) -> Fitting:
    """Sort checkpoints by what they say of themselves.

    Args:
        checkpoints: of a library or named one by one.
        base: name of the base model.
        accept_base: take checkpoints that name no base, or another one, as made for this one.
        strict: stop at those that are broken or name no base, instead of leaving them out.

    Raises:
        InputError: broken checkpoints and ``strict``, or no checkpoint that fits.
    """
    used: list[Checkpoint] = []
    left_out: list[Problem] = []
    for checkpoint in checkpoints:
        problem = checkpoint.problem or _identity(checkpoint, base, accept_base)
        if problem is None:
            used.append(checkpoint)
        else:
            left_out.append(problem)
    broken = [problem for problem in left_out if problem.code != FOREIGN]
    if strict and broken:
        raise InputError(*broken)
    if not used:
        raise InputError(*left_out)
    return Fitting(tuple(used), tuple(left_out))


def skipped(left_out: Iterable[Problem], count: int) -> str:
    """What was left out though it may be for this base, in one line; "" when nothing was.

    Args:
        left_out: problems of the checkpoints that are not used.
        count: how many checkpoints there were.
    """
    kinds: dict[str, set[str]] = {}
    for problem in left_out:
        if problem.code != FOREIGN:
            kinds.setdefault(problem.what, set()).add(problem.where)
    if not kinds:
        return ""
    counts = ", ".join(f"{len(places):,} x {what}" for what, places in kinds.items())
    total = len(set().union(*kinds.values()))
    return f"{total:,} of {count:,} checkpoints skipped: {counts} (mashup check shows them)"


def _identity(checkpoint: Checkpoint, base: str, accept_base: bool) -> Problem | None:
    """What its name says. A full checkpoint may be blank: its weights tell."""
    found = None if accept_base else identity_problem(checkpoint, base)
    is_blank = found is not None and found.code == UNNAMED
    return None if is_blank and checkpoint.kind == "full" else found
