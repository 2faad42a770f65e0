"""What can be averaged: weights of 16 bits or more. The rest must be the same in all models."""

from __future__ import annotations

from mashup.checkpoint.stored import Stored, same_bytes
from mashup.errors import Problem


def average_problem(name: str, value: Stored, kept: Stored) -> Problem | None:
    """The problem of integers, booleans or 8-bit floats that are not as in the model that is kept.

    A merge can neither average them nor, where models disagree, just copy those of one.
    """
    if (value.info.is_float and kept.info.is_float) or same_bytes(value, kept):
        return None
    found = f"{name} of type {value.dtype}, not as in {kept.path.parent}"
    expected = "the same in all, or weights of 16 bits or more"
    fix = "save quantised weights dequantised; make buffers equal, or leave this parent out"
    return Problem("tensor cannot be averaged", str(value.path), found, expected, fix)
