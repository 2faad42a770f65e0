"""Which checkpoints of a library can be used with a base, and which are left out and why.

Mixed folders are usual, so a checkpoint that names another base is left out. One that is broken,
or that names no base, is skipped and counted; a strict caller stops at it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mashup.checkpoint import FOREIGN, Checkpoint, same_base
from mashup.checkpoint.history import read_manifest
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
    told = ", ".join(f"{len(places):,} x {what}" for what, places in kinds.items())
    total = sum(map(len, kinds.values()))
    return f"{total:,} of {count:,} checkpoints skipped: {told} (mashup check shows them)"


def _identity(checkpoint: Checkpoint, base: str, accept_base: bool) -> Problem | None:
    where = str(checkpoint.path)
    if accept_base:
        return None
    same = same_base(checkpoint.base, base)
    if same is None and checkpoint.kind == "full":
        return None  # its weights tell whether it was trained from this base
    if same is None:
        fix = "name it with mashup scan --base, or pass `accept_base` if it is this one"
        return Problem("base model not named", where, "a blank name", base, fix)
    if same:
        return None
    kind = "adapter" if checkpoint.kind == "lora" else "whole model"
    fix = "give the base that it names, or pass `accept_base` if both names mean one model"
    return Problem(f"{kind} of another base", where, checkpoint.base, base, fix, FOREIGN)


def other_weights(folder: Path, digest: str, dtype: str) -> Problem | None:
    """The problem of a folder of ours that was made on other weights of the same shapes.

    ``mashup.json`` holds the digest of the base that it was trained or measured on; it can be
    compared when the precision was the same.
    """
    about = read_manifest(folder)
    noted = about["sample"] if isinstance(about.get("sample"), dict) else about
    known = noted.get("base_digest")
    if not isinstance(known, str) or noted.get("base_dtype") != dtype or known == digest:
        return None
    found, expected = f"weights {known[:12]}", f"{digest[:12]}, those of the given base"
    fix = "give the base that it was made on, or pass `accept_base`"
    return Problem("made on other base weights", str(folder), found, expected, fix, FOREIGN)
