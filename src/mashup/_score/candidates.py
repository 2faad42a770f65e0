"""Who can be scored: checkpoints that fit the base, each under the digest of its content."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mashup.checkpoint import FOREIGN, Checkpoint
from mashup.errors import InputError, Problem
from mashup.library import Index, checkpoint_digest, other_weights
from mashup.model import Base, change_problems, read_change
from mashup.model.swap import find
from mashup.model.whole import OTHER_MODEL
from mashup.progress import Progress
from mashup.similarity.sketches import SCHEME, from_bytes, sketch, to_bytes

Sketch = NDArray[np.float32]
#: Of two models that were trained apart ``|W - W0|`` is at least ``|W0|``, their weights being
#: at right angles; of a model and its fine-tuning a small part of it.
FAR = 0.8


@dataclass(frozen=True)
class Candidate:
    """A checkpoint, and the digest and sketch of what it held when it was found."""

    checkpoint: Checkpoint
    digest: str
    sketch: Sketch = field(compare=False, repr=False)


@dataclass(frozen=True)
class Candidates:
    """What is to be scored, and what is not.

    Attributes:
        used: those that change something, in the library's order.
        unchanged: those that change nothing (B = 0).
        left_out: why others are not scored.
    """

    used: tuple[Candidate, ...]
    unchanged: tuple[Checkpoint, ...]
    left_out: tuple[Problem, ...]


def find_candidates(
    base: Base,
    checkpoints: Sequence[Checkpoint],
    index: Index,
    *,
    accept_base: bool,
    strict: bool,
    progress: Progress,
) -> Candidates:
    """Check every checkpoint against ``base`` and read it once, before any of them is scored.

    Raises:
        InputError: none fits, or broken ones and ``strict``.
    """
    fit, others = _check_modules(base, checkpoints, accept_base, strict)
    used: list[Candidate] = []
    unchanged: list[Checkpoint] = []
    apart: list[Problem] = []
    bad: list[Problem] = []
    with progress.bar("reading", len(fit)) as advance:
        for checkpoint in fit:
            advance()
            try:
                digest = checkpoint_digest(checkpoint.path, index)
                sketched = _sketch(base, checkpoint, digest, index)
                far = None if accept_base else _far_problem(base, checkpoint, sketched)
                if far:
                    apart.append(far)
                elif sketched is None:
                    unchanged.append(checkpoint)
                else:
                    used.append(Candidate(checkpoint, digest, sketched))
            except InputError as error:
                bad += error.problems
    if bad and strict:
        raise InputError(*bad)
    left_out = (*others, *apart, *bad)
    if not used and not unchanged:
        raise InputError(*left_out)
    return Candidates(tuple(used), tuple(unchanged), left_out)


def _sketch(base: Base, checkpoint: Checkpoint, digest: str, index: Index) -> Sketch | None:
    """An adapter's sketch, None when it changes nothing; remembered, so it is read only once.

    New values are compared with the base's own, so the base is in the name of the scheme.
    """
    scheme = f"{SCHEME} {base.digest}"
    kept = index.sketch(digest, scheme)
    with contextlib.suppress(ValueError):  # of another size: damaged, so it is made again
        if kept is not None:
            return from_bytes(kept) if kept else None
    delta = read_change(base.model, checkpoint.path)
    made = None if delta.is_zero else sketch(delta, lambda name: find(base.model, name))
    made = made if made is not None and made.any() else None
    check_content(checkpoint.path, digest, index)
    index.keep_sketch(digest, scheme, b"" if made is None else to_bytes(made))
    return made


def check_content(folder: Path, digest: str, index: Index) -> None:
    """Refuse a checkpoint whose bytes are not those of its digest.

    The digest may be an older note of the index, and is made from the bytes once a process; after
    that, the stamp of the files tells.

    Raises:
        InputError: its content is another, or cannot be read any more.
    """
    try:
        same = checkpoint_digest(folder, index, afresh=True) == digest
    except InputError as error:
        raise InputError(changed(folder, error.problems[0].what)) from error
    if not same:
        raise InputError(changed(folder, "other weights than before"))


def changed(path: Path, found: str) -> Problem:
    fix = "score again when nothing writes there"
    return Problem("checkpoint changed while it was scored", str(path), found, "no change", fix)


def _far_problem(base: Base, checkpoint: Checkpoint, sketched: Sketch | None) -> Problem | None:
    """The problem of a whole model that was not trained from this base, by how far it is."""
    if checkpoint.kind != "full" or sketched is None:
        return None
    share = float(np.linalg.norm(sketched)) / base.norm
    if share <= FAR:
        return None
    found = f"{share:.2f} times the norm of the base's weights away from them"
    fix = "give the base that it was trained from, or pass `accept_base`"
    return Problem(OTHER_MODEL, str(checkpoint.path), found, f"at most {FAR}", fix, FOREIGN)


def _check_modules(
    base: Base, checkpoints: Sequence[Checkpoint], accept_base: bool, strict: bool
) -> tuple[tuple[Checkpoint, ...], tuple[Problem, ...]]:
    """Those whose modules fit ``base``, and the problems of the others.

    An adapter none of whose modules fits is simply for another base, and so is a model of
    another architecture. An adapter that fits in part would be half loaded by other tools: it is
    broken.
    """
    used: list[Checkpoint] = []
    others: list[Problem] = []
    partial: list[Problem] = []
    for checkpoint in checkpoints:
        other = other_weights(checkpoint.path, base.digest, str(base.dtype))
        if other and not accept_base:
            others.append(other)
            continue
        found = change_problems(base.model, checkpoint.path)
        if not found:
            used.append(checkpoint)
        elif found[0].code == FOREIGN or checkpoint.kind == "full":
            others += found
        else:
            partial += found
    if partial and strict:
        raise InputError(*partial)
    if not used:
        raise InputError(*others, *partial)
    return tuple(used), (*others, *partial)
