"""Check checkpoints without merging them: from headers, all problems at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mashup.checkpoint import (
    BaseShapes,
    Checkpoint,
    Fit,
    Opened,
    Stored,
    canonical_name,
    fit,
    same_base,
)
from mashup.checkpoint.fit import UNNAMED
from mashup.checkpoint.identity import quantised_note
from mashup.checkpoint.read import examine
from mashup.errors import InputError, Problem
from mashup.files import require_folder
from mashup.library import hub, scan
from mashup.library.fetch import fetch
from mashup.library.sources import kind_of_source
from mashup.library.walk import find


@dataclass(frozen=True)
class Report:
    """What one checkpoint is and what is wrong with it.

    Attributes:
        checkpoint: as scanned.
        problems: why it cannot be merged; empty when it can.
        notes: what a user should know, in sentences.
        dtypes: of its tensors, most bytes first.
        bytes: of all its tensors.
        is_foreign: whether it names another base and was found below a folder, so that it was
            not compared with the base.
    """

    checkpoint: Checkpoint
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    bytes: int = 0
    is_foreign: bool = False


@dataclass(frozen=True)
class _Found:
    """A checkpoint at or below a path, or in a source.

    Attributes:
        folder: where it is, or will be once it is fetched.
        is_named: whether the user named this one, and not what holds it.
        listed: as its source lists it; None for one of a folder.
    """

    folder: Path
    is_named: bool
    listed: Checkpoint | None = None

    def is_foreign(self, base: BaseShapes) -> bool:
        """Whether its source says that it is of another base; then it is not fetched."""
        one = self.listed
        return one is not None and one.usable and same_base(one.base, base.name) is False


def check(
    paths: Sequence[str | Path],
    *,
    base: str | Path | None = None,
    accept_base: bool = False,
    read: bool = False,
) -> tuple[Report, ...]:
    """Check every checkpoint at or below ``paths``, each once.

    A library may hold checkpoints of several bases: those below a path that name another base
    than ``base`` are not compared with it, unless there are no others. One that is named itself
    is always compared.

    Args:
        paths: checkpoint folders, folders of such, or sources (``hub:ORG``, ``cache:``, ...). What
            is compared is fetched.
        base: the base model; names, sizes, tensors, vocabulary and tying are compared with it.
        accept_base: do not mind blank or other names of the base.
        read: read all numbers as well and look for NaN and infinity.

    Raises:
        UsageError: a source of an unknown form.
        InputError: a path or source that holds no checkpoint or cannot be reached, or a base that
            cannot be read.
    """
    every = [one for path in paths for one in _found_in(path)]
    known = BaseShapes.read(base) if base is not None else None
    named = {one.folder for one in every if one.is_named}
    found = list({one.folder: one for one in every}.values())
    reports = _check_all(found, known, accept_base, read, named)
    if all(report.is_foreign for report in reports):
        reports = _check_all(found, known, accept_base, read, {one.folder for one in found})
    return reports if known or accept_base else _with_bases_compared(reports)


def _with_bases_compared(reports: tuple[Report, ...]) -> tuple[Report, ...]:
    """A note to those that name another base than most: they do not merge with the others."""
    names = Counter(canonical_name(r.checkpoint.base) for r in reports if r.checkpoint.base)
    most = names.most_common(1)[0][0] if names else ""
    note = f"names another base than most here ({most}): those merge only among themselves"
    return tuple(
        replace(r, notes=(*r.notes, note)) if same_base(r.checkpoint.base, most) is False else r
        for r in reports
    )


def _found_in(given: str | Path) -> list[_Found]:
    if kind := kind_of_source(given):
        listed = scan(given, all_checkpoints=True).checkpoints
        at = hub.single_in(str(given).removeprefix("hub:")) if kind == "hub" else None
        alone = at is not None and len(listed) == 1
        return [_Found(one.path, alone, one) for one in listed]
    path = Path(given)
    require_folder(path)
    found = sorted(one.path for one in find(path).found)
    if not found:
        fix = "give a folder with adapter_config.json, or with config.json and weights"
        raise InputError(Problem("no checkpoint here", str(path), "neither", "a checkpoint", fix))
    return [_Found(folder, folder == path) for folder in found]


def _check_all(
    found: Sequence[_Found],
    base: BaseShapes | None,
    accept_base: bool,
    read: bool,
    compared: Collection[Path],
) -> tuple[Report, ...]:
    """A report each; what names another base is compared only if it is in ``compared``."""
    skipped = {
        one.folder
        for one in found
        if base and not accept_base and one.folder not in compared and one.is_foreign(base)
    }
    wanted = [one.listed for one in found if one.listed and one.folder not in skipped]
    failed = fetch(wanted)
    return tuple(
        Report(one.listed, is_foreign=True, bytes=one.listed.bytes)
        if one.listed and one.folder in skipped
        else _check(one, base, accept_base, read, failed, compared=one.folder in compared)
        for one in found
    )


def _check(
    found: _Found,
    base: BaseShapes | None,
    accept_base: bool,
    read: bool,
    failed: Mapping[Path, Problem],
    *,
    compared: bool,
) -> Report:
    folder, listed = found.folder, found.listed
    if listed and (problem := listed.problem or failed.get(folder)):
        return Report(replace(listed, problem=problem), (problem,), bytes=listed.bytes)
    opened, broken = examine(folder)
    checkpoint = replace(opened.checkpoint, name=listed.name) if listed else opened.checkpoint
    if broken:
        return Report(checkpoint, broken, bytes=checkpoint.bytes)
    other = base is not None and same_base(checkpoint.base, base.name) is False
    foreign = other and not accept_base and not compared
    notes = _notes(checkpoint, base, accept_base)
    problems: list[Problem] = []
    if base is not None and not foreign:
        fits = _fit(opened, base, accept_base)
        problems += [problem for problem in fits.problems if problem.code != UNNAMED]
        notes += fits.notes
    if read:
        from mashup.weights import is_finite, not_finite

        problems += [not_finite(one) for one in opened.stored if not is_finite(one)]
    sizes = _dtypes(opened.stored)
    size = sum(sizes.values())
    return Report(checkpoint, tuple(problems), tuple(notes), tuple(sizes), size, foreign)


def _fit(opened: Opened, base: BaseShapes, accept_base: bool) -> Fit:
    """Whether it fits the files of the base, or else the model that transformers makes of them.

    An adapter has the names of the model in memory, and files may have others.
    """
    found = fit(opened, base, accept_base=accept_base, align=True, heads=True)
    if not found.problems or opened.is_full or base.folder is None or not base.is_renamed:
        return found
    from mashup.model import skeleton_shapes

    shapes = skeleton_shapes(base.folder, base.name)
    return found if shapes is None else fit(opened, shapes, accept_base=accept_base)


def _dtypes(tensors: Iterable[Stored]) -> dict[str, int]:
    """Type to bytes, most bytes first."""
    sizes: Counter[str] = Counter()
    for stored in tensors:
        sizes[stored.dtype] += stored.info.bytes
    return dict(sizes.most_common())


def _notes(checkpoint: Checkpoint, base: BaseShapes | None, accept_base: bool) -> list[str]:
    unnamed = not checkpoint.base and not accept_base
    notes = [
        "names no base: merging it needs `accept_base`, or a name given to 'mashup scan'"
        if unnamed
        else "",
        quantised_note(checkpoint.base, base.name if base else ""),
    ]
    return [note for note in notes if note]
