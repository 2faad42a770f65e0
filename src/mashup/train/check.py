"""The start check: a run from an init must start at the loss that scoring measures for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mashup.checkpoint import read_adapter_config, read_modules
from mashup.delta import read_delta
from mashup.errors import InputError, Problem, raise_all
from mashup.model import Base, applied, module_problems
from mashup.score.batches import Batch
from mashup.score.evaluate import evaluate
from mashup.settings import TrainSettings
from mashup.train.adapter import attach, detach

#: Largest accepted difference in nats per answer token, between weights patched in place and
#: a LoRA beside them. Both are the same function; they round differently.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.05, torch.float16: 0.02}


def check_start(
    base: Base, init: Path, batches: Sequence[Batch], settings: TrainSettings
) -> dict[str, Any]:
    """Measure the init in the two ways, on the dev examples.

    Raises:
        InputError: it does not fit the base, or the two losses differ.
    """
    start = time.perf_counter()
    shapes = read_modules(init, read_adapter_config(init))
    raise_all(module_problems(base.model, tuple(shapes.values()), str(init)))
    with applied(base.model, read_delta(init)):
        scored = evaluate(base.model, batches)
    model = attach(base.model, settings, init)
    try:
        started = evaluate(model, batches)
    finally:
        detach(model)
    if abs(scored.loss - started.loss) > TOLERANCE.get(base.dtype, 0.05):
        found = f"loss {started.loss:.4f} at step 0"
        expected = f"{scored.loss:.4f}, as the score measures it"
        fix = "the adapter was not applied as a whole; report this with the init's mashup.json"
        raise InputError(Problem("wrong start", str(init), found, expected, fix))
    seconds = time.perf_counter() - start
    return {"scored_loss": scored.loss, "step_0_loss": started.loss, "seconds": seconds}
