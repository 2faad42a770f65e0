"""Parents of a merge: read, checked against each other, weighted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mashup.checkpoint import Checkpoint, read_checkpoint, same_base
from mashup.delta import Delta, read_delta
from mashup.errors import InputError, Problem, UsageError, raise_all
from mashup.library import adapter_digest


@dataclass(frozen=True)
class Parent:
    """One checkpoint that goes into a merge, with its weight."""

    checkpoint: Checkpoint
    digest: str
    weight: float
    delta: Delta


def read_parents(
    checkpoints: Sequence[Checkpoint | str | Path],
    weights: Sequence[float] | None,
    *,
    accept_base: bool,
) -> tuple[Parent, ...]:
    """Read the parents, sorted by content so that the order of arguments does not matter.

    Raises:
        UsageError: weights that do not fit.
        InputError: a parent that is broken, changes nothing, or has another base or shapes.
    """
    found = [c if isinstance(c, Checkpoint) else read_checkpoint(Path(c)) for c in checkpoints]
    used = check_weights(weights, len(found))
    raise_all(problem for c in found if (problem := _unusable(c)))
    if not accept_base:
        raise_all(_base_problems(found))
    deltas = _read(found)
    raise_all(_shape_problems(found, deltas))
    digests = [adapter_digest(checkpoint.path) for checkpoint in found]
    parents = map(Parent, found, digests, used, deltas)
    return tuple(sorted(parents, key=lambda parent: (parent.digest, parent.weight)))


def check_weights(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    """The weights as given, or 1/count each.

    Raises:
        UsageError: not one a parent, not finite, or all zero.
    """
    if count == 0:
        raise UsageError(Problem("nothing to merge", "parents", "none", "at least one"))
    given = tuple(weights) if weights is not None else (1 / count,) * count
    if len(given) != count:
        expected = f"{count}, one for each parent"
        raise UsageError(Problem("wrong number of weights", "--weights", str(len(given)), expected))
    if not all(math.isfinite(weight) for weight in given) or not any(given):
        expected = "finite numbers, not all zero"
        raise UsageError(Problem("bad weights", "--weights", str(list(given)), expected))
    return given


def _unusable(checkpoint: Checkpoint) -> Problem | None:
    if checkpoint.kind == "full":
        fix = "merge LoRA adapters"
        return Problem("full checkpoint, not used yet", str(checkpoint.path), fix=fix)
    return checkpoint.problem


def _read(checkpoints: Sequence[Checkpoint]) -> list[Delta]:
    deltas, problems = [], []
    for checkpoint in checkpoints:
        try:
            delta = read_delta(checkpoint.path)
            deltas.append(delta)
            if delta.is_zero:
                problems.append(_changes_nothing(checkpoint))
        except InputError as error:
            problems += error.problems
    raise_all(problems)
    return deltas


def _changes_nothing(checkpoint: Checkpoint) -> Problem:
    found, fix = "B = 0: it was saved before it was trained", "leave it out"
    where = str(checkpoint.path)
    return Problem("adapter changes nothing", where, found, "a trained adapter", fix)


def _base_problems(checkpoints: Sequence[Checkpoint]) -> list[Problem]:
    first = checkpoints[0]
    fix = "merge adapters of one base, or pass --accept-base if it is the same model"
    problems = []
    for checkpoint in checkpoints:
        same = same_base(checkpoint.base, first.base)
        where, found = str(checkpoint.path), checkpoint.base or "a blank name"
        if same is None and not checkpoint.base:
            problems.append(Problem("base model not named", where, found, "its base", fix))
        elif same is False:
            problems.append(Problem("adapters of different bases", where, found, first.base, fix))
    return problems


def _shape_problems(checkpoints: Sequence[Checkpoint], deltas: Sequence[Delta]) -> list[Problem]:
    seen: dict[str, tuple[int, int]] = {}
    problems = []
    for checkpoint, delta in zip(checkpoints, deltas, strict=True):
        shapes = {n: (f.B.shape[0], f.A.shape[1]) for n, f in delta.modules.items()}
        wrong = [n for n, shape in shapes.items() if seen.setdefault(n, shape) != shape]
        if wrong:
            found, expected = (
                f"{wrong[0]}: {shapes[wrong[0]]}",
                f"{seen[wrong[0]]} as in the others",
            )
            where = str(checkpoint.path)
            fix = "merge adapters that were trained on one base"
            problems.append(Problem("adapters of different bases", where, found, expected, fix))
    return problems
