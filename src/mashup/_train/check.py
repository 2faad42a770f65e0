"""The start check: a run from an init must start at the loss that scoring measures for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mashup._train.adapter import attach, detach
from mashup.checkpoint import open_checkpoint
from mashup.errors import InputError, Problem, raise_all
from mashup.evaluate.batches import Batch
from mashup.evaluate.evaluate import evaluate_showing
from mashup.model import Base, applied, base_shapes, fit_loaded, read_change
from mashup.progress import SILENT, Progress
from mashup.settings import TrainSettings

#: Largest accepted difference between the loss of the delta as scoring puts it on and that of
#: the LoRA that will be trained, in nats per answer token for losses up to 1 and as a share of
#: larger ones. Both compute the same in the same order; only the kernels may differ.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-3, torch.float16: 2e-3}


def check_start(
    base: Base,
    init: Path,
    batches: Sequence[Batch],
    settings: TrainSettings,
    *,
    accept_base: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Check that an init is of this base and measure it in the two ways, on the dev examples.

    Raises:
        InputError: it does not fit the base, or the two losses differ.
    """
    start = time.perf_counter()
    opened = open_checkpoint(init)
    fit = fit_loaded(opened, base_shapes(base), base.model, accept_base=accept_base)
    raise_all(fit.problems)
    with applied(base.model, read_change(base.model, opened)):
        scored = evaluate_showing(base.model, batches, progress, "start check, as scored")
    model = attach(base.model, settings, init)
    try:
        started = evaluate_showing(model, batches, progress, "start check, as trained")
    finally:
        detach(model)
    if abs(scored.loss - started.loss) > TOLERANCE[base.dtype] * max(1.0, scored.loss):
        found = f"loss {started.loss:.4f} at step 0"
        expected = f"{scored.loss:.4f}, as the score measures it"
        fix = "the init was not applied as a whole; report this with the init's mashup.json"
        raise InputError(Problem("wrong start", str(init), found, expected, fix))
    seconds = time.perf_counter() - start
    return {"scored_loss": scored.loss, "step_0_loss": started.loss, "seconds": seconds}
