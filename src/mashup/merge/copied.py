"""Tensors that are no weights: copied as they are, so all parents must agree on them."""

from __future__ import annotations

from collections.abc import Mapping

from mashup.checkpoint.placement import COMPUTED
from mashup.checkpoint.stored import Stored, same_bytes
from mashup.errors import Problem
from mashup.headers import FLOATS
from mashup.merge.changes import Change, OnDisk
from mashup.merge.reference import Reference
from mashup.weights import SAFETENSORS, TORCH

_WEIGHTS = {TORCH[name] for name in FLOATS}


def copied_problems(reference: Reference) -> list[Problem]:
    """Integers, booleans and 8-bit floats that a merge can neither average nor just copy."""
    return [
        problem
        for changes in reference.changes
        for name, change in changes.items()
        if change.value
        and not name.endswith(COMPUTED)
        and (problem := _problem(reference.tensors, name, change))
    ]


def _problem(tensors: Mapping[str, Stored], name: str, change: Change) -> Problem | None:
    kept, value = tensors[name], change.value
    assert value is not None
    if kept.info.is_float and value.dtype in _WEIGHTS:
        return None
    if isinstance(value, OnDisk) and same_bytes(value.stored, kept):
        return None
    where = str(value.stored.path) if isinstance(value, OnDisk) else name
    found = f"{name} of type {SAFETENSORS[value.dtype]}, not as in {kept.path.parent}"
    expected = "the same in all, or weights of 16 bits or more"
    fix = "save quantised weights dequantised; make buffers equal, or leave this parent out"
    return Problem("tensor cannot be averaged", where, found, expected, fix)
