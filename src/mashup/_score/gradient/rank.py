"""Losses of any number of donors, predicted from backward passes at one point between them.

Measured on 72 donors and eight tasks (benchmarks/choosing/GRADIENT.md) this is no better than
true losses of four examples a donor, which cost the same there: it is worth its price only where
there are many more donors, and what it says needs true evaluations of the best.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mashup._score.gradient.directional import norm
from mashup._score.gradient.examples import Slopes, slopes_at
from mashup._score.gradient.odds import Array, Odds
from mashup._score.gradient.point import Point, weighted_sum
from mashup.delta import read_delta
from mashup.evaluate.batches import Batch
from mashup.model import Base
from mashup.progress import SILENT, Progress

Where = Literal["even", "mean", "base"]

CHUNK = 128  # donors in memory at once; each such chunk costs one pass
STEP = 0.5  # of the way to a donor: the whole way is too far for a linear model
PASS = 5  # forwards of the same examples that a pass costs, before the donors' own products


@dataclass(frozen=True)
class GradientScores:
    """In the order of the donors.

    Attributes:
        values: ``(N,)`` predicted loss, nats per answer token, half way from the point to the
            donor: lower is better; it orders donors, it is not their loss.
        norms: ``(N,)`` Frobenius norms of their deltas.
        seconds: of the whole call.
        forward_equivalents: forwards of one example that the passes cost, an estimate.
    """

    values: Array
    norms: Array
    seconds: float
    forward_equivalents: int


def rank(
    base: Base,
    folders: Sequence[Path],
    batches: Sequence[Batch],
    *,
    point: Where = "even",
    chunk: int = CHUNK,
    progress: Progress = SILENT,
) -> GradientScores:
    """Predict how well each donor fits, without evaluating any.

    The log-odds of every answer are linear around the point
    (:mod:`mashup._score.gradient.odds`). Donors are read three times and are never in memory
    all at once; per-example slopes take eight bytes an example and donor.

    Args:
        base: the loaded base.
        folders: LoRA folders that :func:`mashup._score.gradient.uncovered` has no word against.
        batches: of the sample.
        point: ``even``: the mean of all donors brought to their median norm, so that one that
            diverged does not drag it away; ``mean``: the plain mean; ``base``: no change.
        chunk: donors in memory at once; the result does not depend on it.
        progress: where to show a bar.

    Raises:
        InputError: unreadable, or a module that the base does not have.
    """
    begin = time.perf_counter()
    norms = np.array([norm(read_delta(folder)) for folder in folders])
    way = way_to(point, norms)
    where = weighted_sum(folders, list(way), progress) if way.any() else {}
    parts = [
        _slopes(base, folders[start : start + chunk], batches, where, progress)
        for start in range(0, len(folders), chunk)
    ]
    values = _predicted(parts, way)
    examples = sum(len(batch.rows) for batch in batches)
    seconds = time.perf_counter() - begin
    return GradientScores(values, norms, seconds, PASS * examples * len(parts))


def way_to(point: Where, norms: Array) -> Array:
    """Weights ``(N,)`` of the donors in the point; donors of norm 0 are in none."""
    if point == "base":
        return np.zeros(len(norms))
    if point == "mean":
        return np.full(len(norms), 1 / len(norms))
    moved = norms > 0
    median = np.median(norms[moved]) if moved.any() else 0.0
    return np.where(moved, median / np.where(moved, norms, 1), 0) / len(norms)


def _slopes(
    base: Base,
    folders: Sequence[Path],
    batches: Sequence[Batch],
    point: Point,
    progress: Progress,
) -> Slopes:
    deltas = [read_delta(folder) for folder in folders]
    return slopes_at(base.model, batches, deltas, point=point, progress=progress)


def _predicted(parts: Sequence[Slopes], way: Array) -> Array:
    """From the point, a donor is its difference to the point."""
    each = np.hstack([part.each for part in parts])
    losses = parts[0].losses
    apart = each - (each @ way)[:, None]
    odds = Odds.of(losses.sums, apart, int(losses.tokens.sum()))
    return odds.loss(STEP * np.eye(len(way)))
