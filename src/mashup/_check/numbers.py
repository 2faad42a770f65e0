"""Read all numbers of a checkpoint and look for NaN and infinity; the only part with torch."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from mashup._merge.changes import spans
from mashup.checkpoint import Stored
from mashup.errors import Problem
from mashup.weights import not_finite, read_rows


def not_finite_problems(tensors: Iterable[Stored]) -> list[Problem]:
    """One problem a tensor that holds NaN or infinity."""
    return [not_finite(one) for one in tensors if not _is_finite(one)]


def _is_finite(stored: Stored) -> bool:
    if not stored.info.is_float:
        return True
    pieces = (read_rows(stored, start, stop) for start, stop in spans(stored.shape))
    return all(bool(torch.isfinite(rows).all()) for rows in pieces)
