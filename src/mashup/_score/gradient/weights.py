"""Weights of a merge, from what the sample says around its uniform merge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mashup._score.gradient.examples import slopes_at
from mashup._score.gradient.odds import Odds, best_weights
from mashup._score.gradient.point import mean_of, moved, weighted_sum
from mashup.delta import read_delta
from mashup.evaluate.batches import Batch
from mashup.evaluate.evaluate import evaluate
from mashup.model import Base
from mashup.progress import SILENT, Progress

RIDGE = 0.1  # benchmarks/choosing/GRADIENT.md
SHARES = (0.25, 0.5, 1.0)  # of the way from uniform weights to the best predicted ones


def newton_weights(
    base: Base,
    folders: Sequence[Path],
    batches: Sequence[Batch],
    *,
    search: bool = True,
    progress: Progress = SILENT,
) -> tuple[float, ...]:
    """Weights, each at least 0, of the lowest predicted loss around the uniform linear merge.

    The loss is predicted from one forward and backward pass at the uniform merge
    (:mod:`mashup._score.gradient.odds`) and minimised by Newton's method. The prediction is worse
    the further it goes, so with ``search`` the true loss of the merge is measured at a quarter,
    half and the whole of the way, and the best of these and of the uniform merge is taken: on
    the sample the result is never worse than uniform weights.

    Args:
        base: the loaded base.
        folders: LoRA folders that :func:`mashup._score.gradient.uncovered` has no word against;
            all are in memory at once.
        batches: of the sample.
        search: whether to measure; else the whole way is gone.
        progress: where to show a bar.

    Raises:
        InputError: unreadable, or a module that the base does not have.
    """
    deltas = [read_delta(folder) for folder in folders]
    uniform = np.full(len(folders), 1 / len(folders))
    slopes = slopes_at(base.model, batches, deltas, point=mean_of(folders), progress=progress)
    losses = slopes.losses
    odds = Odds.of(losses.sums, slopes.each, int(losses.tokens.sum()))
    step = best_weights(odds, uniform, RIDGE) - uniform

    def measured(share: float) -> float:
        point = weighted_sum(folders, list(uniform + share * step))
        with moved(base.model, point):
            return evaluate(base.model, batches).loss

    share = _best_share(measured, losses.mean) if search else 1.0
    return tuple(map(float, uniform + share * step))


def _best_share(measured: Callable[[float], float], uniform: float) -> float:
    """The share of the lowest measured loss; 0 where none is below that of uniform weights."""
    tried = {0.0: uniform} | {share: measured(share) for share in SHARES}
    return min(tried, key=tried.__getitem__)
