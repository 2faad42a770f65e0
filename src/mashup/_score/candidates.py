"""Who can be scored: checkpoints that fit the base, each under the digest of its content."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mashup.checkpoint import Checkpoint, Opened, open_checkpoint
from mashup.checkpoint.fit import UNNAMED, distance_problem
from mashup.errors import InputError, Problem
from mashup.library import Index, checkpoint_digest
from mashup.model import Base, base_shapes, fit_loaded, read_change
from mashup.model.apply import find
from mashup.progress import Progress
from mashup.sketches import SCHEME, from_bytes, sketch, to_bytes

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
    fit, others = _opened(base, checkpoints, accept_base, strict)
    used: list[Candidate] = []
    unchanged: list[Checkpoint] = []
    apart: list[Problem] = []
    bad: list[Problem] = []
    with progress.bar("reading", len(fit)) as advance:
        for opened in fit:
            advance()
            checkpoint = opened.checkpoint
            try:
                digest = checkpoint_digest(opened, index)
                sketched = _sketch(base, opened, digest, index)
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


def _sketch(base: Base, opened: Opened, digest: str, index: Index) -> Sketch | None:
    """An adapter's sketch, None when it changes nothing; remembered, so it is read only once.

    New values are compared with the base's own, so the base is in the name of the scheme.
    """
    scheme = f"{SCHEME} {base.digest}"
    kept = index.sketch(digest, scheme)
    with contextlib.suppress(ValueError):  # of another size: damaged, so it is made again
        if kept is not None:
            return from_bytes(kept) if kept else None
    delta = read_change(base.model, opened)
    made = None if delta.is_zero else sketch(delta, lambda name: find(base.model, name))
    made = made if made is not None and made.any() else None
    check_content(opened.path, digest, index)
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
    """The problem of a full checkpoint too far from this base to have been trained from it."""
    if checkpoint.kind != "full" or sketched is None:
        return None
    share = float(np.linalg.norm(sketched)) / base.norm
    return None if share <= FAR else distance_problem(checkpoint.path, share, FAR)


def _opened(
    base: Base, checkpoints: Sequence[Checkpoint], accept_base: bool, strict: bool
) -> tuple[tuple[Opened, ...], tuple[Problem, ...]]:
    """Those that fit ``base``, and the problems of the others.

    Other tools would load an adapter that fits in part by half: it counts as broken.
    """
    shapes = base_shapes(base)
    used: list[Opened] = []
    others: list[Problem] = []
    broken: list[Problem] = []
    for checkpoint in checkpoints:
        try:
            opened = open_checkpoint(checkpoint)
            found = fit_loaded(opened, shapes, base.model, accept_base=accept_base)
        except InputError as error:
            broken += error.problems
            continue
        problems = [problem for problem in found.problems if problem.code != UNNAMED]
        if not problems:
            used.append(opened)
        elif found.is_foreign or checkpoint.kind == "full":
            others += problems
        else:
            broken += problems
    if broken and strict:
        raise InputError(*broken)
    if not used:
        raise InputError(*others, *broken)
    return tuple(used), (*others, *broken)
