"""Which checkpoints of a library can be used with a base, which are left out, which are wrong.

A checkpoint that names another base is left out and said so: mixed folders are usual. One
that is broken, or whose base cannot be told, is a problem that the user decides about.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from mashup.checkpoint import Checkpoint, same_base
from mashup.checkpoint.history import MANIFEST
from mashup.errors import InputError, Problem
from mashup.files import read_json

_ACCEPT = "name the base in adapter_config.json, or pass --accept-base if it is this one"


@dataclass(frozen=True)
class Fitting:
    """``used`` fit the base; ``left_out`` are for another base, or accepted as broken."""

    used: tuple[Checkpoint, ...]
    left_out: tuple[Problem, ...]


def fitting(
    checkpoints: Iterable[Checkpoint], base: str, *, accept_base: bool, skip_bad: bool
) -> Fitting:
    """Sort checkpoints by what they say of themselves.

    Args:
        checkpoints: of a library or named one by one.
        base: name of the base model.
        accept_base: take checkpoints that name no base, or another one, as made for this one.
        skip_bad: leave broken checkpoints out instead of raising.

    Raises:
        InputError: broken or unnamed checkpoints without ``skip_bad``, or none that fits.
    """
    used: list[Checkpoint] = []
    left_out: list[Problem] = []
    bad: list[Problem] = []
    for checkpoint in checkpoints:
        problem = checkpoint.problem or _identity(checkpoint, base, accept_base)
        if problem is None:
            used.append(checkpoint)
        elif checkpoint.problem is not None or not checkpoint.base:
            (bad if checkpoint.kind == "lora" else left_out).append(problem)
        else:
            left_out.append(problem)
    if bad and not skip_bad:
        fix = "mend or move it, or pass --skip-bad to go on without it"
        raise InputError(*(replace(p, fix=f"{p.fix}; {fix}" if p.fix else fix) for p in bad))
    if not used:
        raise InputError(*left_out, *bad)
    return Fitting(tuple(used), (*left_out, *bad))


def _identity(checkpoint: Checkpoint, base: str, accept_base: bool) -> Problem | None:
    where = str(checkpoint.path)
    if accept_base:
        return None
    same = same_base(checkpoint.base, base)
    if same is None and checkpoint.kind == "full":
        return None  # its weights tell whether it was trained from this base
    if same is None:
        return Problem("base model not named", where, "a blank name", base, _ACCEPT)
    if same:
        return None
    kind = "adapter" if checkpoint.kind == "lora" else "whole model"
    return Problem(f"{kind} of another base", where, checkpoint.base, base, _ACCEPT)


def other_weights(folder: Path, digest: str, dtype: str) -> Problem | None:
    """The problem of a folder of ours that was made on other weights of the same shapes.

    ``mashup.json`` holds the digest of the base that it was trained or measured on; it can be
    compared when the precision was the same.
    """
    path = folder / MANIFEST
    about = read_json(path) if path.exists() else {}
    noted = about.get("sample") or about if isinstance(about, dict) else {}
    known = noted.get("base_digest")
    if not known or noted.get("base_dtype") != dtype or known == digest:
        return None
    found, expected = f"weights {known[:12]}", f"{digest[:12]}, those of the given base"
    fix = "give the base that it was made on, or pass --accept-base"
    return Problem("made on other base weights", str(folder), found, expected, fix)
