"""The model that a merge is shaped like, and the parents matched with it, by names and shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mashup._merge.changes import Change, OnDisk, Value
from mashup._merge.parents import Parent
from mashup._merge.vocabulary import align
from mashup.checkpoint import BaseShapes, Stored
from mashup.checkpoint.fit import COMPUTED, Coverage, Shape, arranged, coverage, shape_of_rows
from mashup.checkpoint.full import average_problem, breaks_tie, tie_problem, with_head
from mashup.checkpoint.identity import HEAD
from mashup.checkpoint.vocabulary import BY_TOKEN, EMBEDDINGS, Tables, differ, read_tables
from mashup.errors import InputError, Problem, raise_all
from mashup.settings import MergeSettings


@dataclass(frozen=True)
class Covered:
    """A parent's changes that have a place, by name of the reference's tensor, and the rest."""

    changes: Mapping[str, Change]
    coverage: Coverage


@dataclass(frozen=True)
class Reference:
    """What the merged model looks like.

    Attributes:
        model: whose tensors and settings they are: the base, or the first parent.
        is_base: whether that is the base.
        tied: whether the result's output head is its embedding.
        tensors: name to place of the result's tensors in ``model``; no head where it is tied.
        vocabulary: folder whose tokenizer the result has.
        bases: values of the base that are not as stored, having been aligned.
        covered: per parent, its changes and what does not fit.
    """

    model: BaseShapes
    is_base: bool
    tied: bool
    tensors: Mapping[str, Stored]
    vocabulary: Path
    bases: Mapping[str, Value] = field(default_factory=dict)
    covered: tuple[Covered, ...] = ()

    @property
    def folder(self) -> Path:
        """Where ``model`` is."""
        assert self.model.folder is not None
        return self.model.folder

    @property
    def changes(self) -> list[Mapping[str, Change]]:
        return [one.changes for one in self.covered]

    def base(self, name: str) -> Value | None:
        """The base's value of a tensor, None when the base is not known."""
        if not self.is_base:
            return None
        return self.bases.get(name) or OnDisk(self.tensors[name])


def match(
    parents: Sequence[Parent],
    model: BaseShapes,
    settings: MergeSettings,
    *,
    is_base: bool,
    into_lora: bool,
) -> Reference:
    """Match the parents with the base, or with the first of them when none is given.

    Args:
        parents: at least one; a LoRA needs the base.
        model: the base, or the first parent, as read from files.
        settings: whether to merge in part, whether to untie, whose vocabulary to take.
        is_base: whether ``model`` is the base.
        into_lora: the result is a LoRA, which breaks no ties: its base stays as it is.

    Raises:
        InputError: tensors without a place, places without a tensor, ties that would break,
            vocabularies that cannot be aligned; all at once where they are independent.
    """
    assert model.folder is not None
    reference = Reference(model, is_base, model.tied, model.stored, model.folder)
    breaking = [
        parent
        for parent in parents
        if breaks_tie(parent.opened.apart, model.own, whole=parent.is_full, tied=model.tied)
    ]
    if breaking and not settings.untie and not into_lora:
        raise InputError(*(tie_problem(str(p.path), tied=model.tied) for p in breaking))
    if breaking:
        reference = replace(reference, tied=False, tensors=with_head(model.stored))
    parents = [_arranged(parent, model) for parent in parents]
    if breaking:
        parents = [p if into_lora and p.adapter else _with_head(p) for p in parents]
    tokenizer = Path(settings.tokenizer) if settings.tokenizer else None
    reference, parents = _align(reference, parents, tokenizer)
    places = _shapes(reference)
    covered = [_cover(parent, places, reference) for parent in parents]
    if not settings.allow_partial:
        both = zip(covered, parents, strict=True)
        raise_all(problem for one, p in both for problem in one.coverage.problems(str(p.path)))
    return replace(reference, covered=tuple(covered))


def copied_problems(reference: Reference) -> list[Problem]:
    """Integers, booleans and 8-bit floats on which the parents differ.

    A merge can neither average them nor just copy those of one.
    """
    return [
        problem
        for changes in reference.changes
        for name, change in changes.items()
        if not name.endswith(COMPUTED)
        and (stored := _stored(change.value))
        and (problem := average_problem(name, stored, reference.tensors[name]))
    ]


def _stored(value: object) -> Stored | None:
    """What lies on disk below a value that is aligned or patched."""
    while value is not None and not isinstance(value, OnDisk):
        value = getattr(value, "value", None)
    return value.stored if isinstance(value, OnDisk) else None


def _arranged(parent: Parent, model: BaseShapes) -> Parent:
    """A LoRA of stacked experts or Conv1D, in the layout of the base's tensors."""
    if parent.adapter is None:
        return parent
    return replace(parent, opened=replace(parent.opened, adapter=arranged(parent.adapter, model)))


def _with_head(parent: Parent) -> Parent:
    """The parent with what its head computes with, where that was its embedding."""
    if parent.adapter is None:
        return replace(parent, moved=with_head(parent.changes))
    changes = dict(parent.changes)
    for name, change in parent.changes.items():
        if not name.endswith(EMBEDDINGS) or HEAD in changes:
            continue
        original = parent.adapter.originals.get(name)
        if original is not None:
            changes[HEAD] = Change(OnDisk(original))
        elif name not in parent.adapter.copied and (change.value or change.rows):
            changes[HEAD] = Change(change.value, rows=change.rows)
    return replace(parent, moved=changes)


def _shapes(reference: Reference) -> dict[str, Shape]:
    """The shapes of the result's tensors."""
    shapes = {name: stored.shape for name, stored in reference.tensors.items()}
    return shapes | {name: tuple(value.shape) for name, value in reference.bases.items()}


def _cover(parent: Parent, places: Mapping[str, Shape], reference: Reference) -> Covered:
    """A parent's changes that fit the result's tensors, by name and shape.

    Changes of rows and biases become whole values, which need the base's.
    """
    shapes = {}
    for name, change in parent.changes.items():
        shift = [change.shift[1].shape] if change.shift else []
        place = places.get(name, ())
        rows = change.rows and shape_of_rows(change.rows[0], change.rows[1].shape, place)
        shapes[name] = [*change.shapes, *shift, *([rows] if rows else [])]
    found = coverage(shapes, places, whole=parent.is_full)
    fitting = {}
    for name, change in parent.changes.items():
        if name in found.fitting:
            base = reference.base(name)
            fitting[name] = change.on(base) if base is not None else change
    return Covered(fitting, found)


def _align(
    reference: Reference, parents: Sequence[Parent], tokenizer: Path | None
) -> tuple[Reference, Sequence[Parent]]:
    """Align all tensors that have one row per token, if any vocabulary differs."""
    places = [parent.opened.embedding for parent in parents]
    base = reference.model.embedding
    others = [place for place in places if place]
    if base is None or not any(differ(base, place) for place in others):
        return reference, parents
    if not reference.is_base:
        fix = "give `base`: a token that a parent lacks gets the base's row"
        where = str(reference.folder)
        raise InputError(Problem("vocabularies differ", where, "no base", "the base model", fix))
    tables = read_tables(base, places, tokenizer)
    if tables.are_one:
        return reference, parents
    return _aligned(reference, parents, tables)


def _aligned(
    reference: Reference, parents: Sequence[Parent], tables: Tables
) -> tuple[Reference, Sequence[Parent]]:
    bases: dict[str, Value] = {}
    changes = [dict(parent.changes) for parent in parents]
    for name in reference.tensors:
        if name.endswith(BY_TOKEN):
            base = OnDisk(reference.tensors[name])
            bases[name], moved = align(tables, base, [one.get(name) for one in changes])
            for own, change in zip(changes, moved, strict=True):
                if change is not None:
                    own[name] = change
    moved_parents = [replace(p, moved=own) for p, own in zip(parents, changes, strict=True)]
    return replace(reference, bases=bases, vocabulary=tables.folder), moved_parents
