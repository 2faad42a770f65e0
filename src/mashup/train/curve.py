"""The curve of a run: dev and test loss and accuracy over steps, seconds and tokens."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from mashup.checkpoint.history import step_of
from mashup.evaluate.batches import Batch
from mashup.evaluate.evaluate import Evaluation, evaluate_showing
from mashup.files import to_json, write_text
from mashup.processes import is_first
from mashup.progress import SILENT, Progress
from mashup.results.curve import START_TEST, Point, read_curve

CLOCK = "clock.txt"  # training seconds, beside a resume point


@dataclass(frozen=True)
class Held:
    """The batches that a run is evaluated on, never trained on."""

    dev: Sequence[Batch]
    test: Sequence[Batch]


def write_values(path: Path, test: Evaluation) -> None:
    """Per-example losses (sums, nats), answer tokens and hits, for paired statistics."""
    values = {"losses": test.losses.tolist(), "tokens": test.tokens.tolist()}
    write_text(path, to_json(values | {"correct": test.correct.tolist()}))


class CurveCallback(TrainerCallback):
    """Evaluates at given steps and appends to ``curve.jsonl``; counts seconds and tokens.

    The seconds are kept beside the Trainer's resume points, so that a resumed run goes on
    counting. ``seconds`` are those of training steps; evaluations are not in them.
    """

    def __init__(
        self, path: Path, held: Held, steps: Sequence[int], progress: Progress = SILENT
    ) -> None:
        self.trainer: Any = None
        self.seconds = 0.0
        self._path, self._held, self._progress = path, held, progress
        self._steps = frozenset(steps[:-1])  # the end is evaluated by finish()
        self._begin = 0.0

    def start(self, model: Any) -> None:
        """Step 0 of a new run, with its per-example test values."""
        if is_first():
            self._path.unlink(missing_ok=True)
        test = self._add(model, 0, 0)
        if is_first():
            write_values(self._path.with_name(START_TEST), test)

    def finish(self, model: Any, step: int, tokens: int) -> Evaluation:
        """The end of training; gives the test evaluation with its per-example values."""
        return self._add(model, step, tokens)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """On resuming, forget what came after the step that training goes on from."""
        if state.global_step:
            self.resume(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def resume(self, point: Path) -> None:
        """Go on from a resume point: its clock, and no points of the curve after it."""
        self.seconds = float((point / CLOCK).read_text())
        if is_first():
            self._forget_after(step_of(point) or 0)

    def _forget_after(self, last: int) -> None:
        kept = [one for one in read_curve(self._path) if one.step <= last]
        kept = [one for one in kept if one.step < last or one.step in self._steps]
        write_text(self._path, "".join(json.dumps(asdict(one)) + "\n" for one in kept))

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._begin = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # else the clock stops before the step does
        self.seconds += time.perf_counter() - self._begin
        if state.global_step in self._steps:
            wanted = control.should_log  # logging the point would take it for the training loss
            self._add(kwargs["model"], state.global_step, int(state.num_input_tokens_seen))
            control.should_log = wanted

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if is_first():
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_text(folder / CLOCK, str(self.seconds))

    def _add(self, model: Any, step: int, tokens: int) -> Evaluation:
        dev = evaluate_showing(model, self._held.dev, self._progress, "evaluating dev")
        test = evaluate_showing(model, self._held.test, self._progress, "evaluating test")
        point = Point(step, self.seconds, tokens, dev.loss, dev.accuracy, test.loss, test.accuracy)
        if is_first():
            with self._path.open("a") as stream:
                stream.write(json.dumps(asdict(point)) + "\n")
        self.trainer.log({k: v for k, v in asdict(point).items() if "_" in k})
        return test
