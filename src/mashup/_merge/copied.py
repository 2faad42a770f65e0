"""Tensors that are no weights: copied as they are, so all parents must agree on them."""

from __future__ import annotations

from mashup._merge.reference import Reference
from mashup._merge.values import OnDisk
from mashup.checkpoint import Stored
from mashup.checkpoint.averaging import average_problem
from mashup.checkpoint.placement import COMPUTED
from mashup.errors import Problem


def copied_problems(reference: Reference) -> list[Problem]:
    """Integers, booleans and 8-bit floats that a merge can neither average nor just copy."""
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
