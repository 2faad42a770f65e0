"""The changes of a parent that have a place in the merged model, and what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mashup._merge.changes import Change
from mashup._merge.parents import Parent
from mashup.checkpoint import Stored
from mashup.checkpoint.placement import Coverage, Shape, coverage, shape_of_rows


@dataclass(frozen=True)
class Covered:
    """A parent's changes that have a place, by name of the reference's tensor, and the rest."""

    changes: Mapping[str, Change]
    coverage: Coverage


def cover(parent: Parent, reference: Mapping[str, Stored]) -> Covered:
    """Match a parent's changes with the tensors of ``reference`` by name and shape."""
    places = {name: stored.shape for name, stored in reference.items()}
    shapes = {n: _shapes(change, places.get(n, ())) for n, change in parent.changes.items()}
    found = coverage(shapes, places, whole=parent.is_full)
    return Covered({n: c for n, c in parent.changes.items() if n in found.fitting}, found)


def _shapes(change: Change, base: Shape) -> list[Shape]:
    """Shapes that a change expects of its tensor, which has the shape ``base``."""
    parts = [part for part in (change.value, change.lora) if part is not None]
    shift = [change.shift[1].shape] if change.shift else []
    rows = [shape_of_rows(change.rows[0], change.rows[1].shape, base)] if change.rows else []
    return [*(tuple(part.shape) for part in parts), *shift, *rows]
