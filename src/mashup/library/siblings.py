"""One checkpoint for each run: the best by its trainer state, else the last."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from mashup.checkpoint import Checkpoint


def keep_one_per_run(
    checkpoints: Iterable[Checkpoint],
) -> tuple[tuple[Checkpoint, ...], tuple[Checkpoint, ...]]:
    """Split into those kept (one a run and kind) and their siblings, both sorted by path.

    Broken siblings are never hidden behind a good one's back: they stay in the first
    group, so that their problem is seen, but a usable sibling is kept beside them.
    """
    kept: list[Checkpoint] = []
    hidden: list[Checkpoint] = []
    ordered = sorted(checkpoints, key=_run_order)
    for _, group in groupby(ordered, key=lambda c: (c.run, c.kind)):
        siblings = list(group)
        chosen = _choose(siblings)
        for sibling in siblings:
            keep = sibling is chosen or sibling.problem is not None
            (kept if keep else hidden).append(sibling)
    return tuple(sorted(kept, key=_path)), tuple(sorted(hidden, key=_path))


def _run_order(checkpoint: Checkpoint) -> tuple[tuple[str, ...], str, float]:
    step = checkpoint.step
    return checkpoint.run.parts, checkpoint.kind, float("inf") if step is None else step


def _path(checkpoint: Checkpoint) -> tuple[str, ...]:
    return checkpoint.path.parts


def _choose(siblings: list[Checkpoint]) -> Checkpoint:
    """The last state that names a best step decides; without one, the last sibling."""
    healthy = [sibling for sibling in siblings if sibling.problem is None] or siblings
    told = [s.best_step for s in siblings if s.best_step is not None]
    best = [sibling for sibling in healthy if told and sibling.step == told[-1]]
    return best[0] if best else healthy[-1]
