"""The curve of a run: dev and test loss and accuracy over steps, seconds and tokens."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from mashup._train.resume import Clock, damaged_point
from mashup._train.work import Ways
from mashup.checkpoint.adapter import WEIGHTS
from mashup.checkpoint.history import step_of
from mashup.evaluate.batches import Batch
from mashup.evaluate.evaluate import Evaluation, evaluate_showing
from mashup.outputs import append_text, move, temporary_folder, to_json, write_text
from mashup.processes import is_first, wait
from mashup.progress import NO_BAR
from mashup.results.curve import START_TEST, Point, check_curve, least, read_curve
from mashup.state import to_lines


@dataclass(frozen=True)
class Held:
    """The batches that a run is evaluated on, never trained on.

    Attributes:
        test_points: where the test rows are read: ``all``, ``end`` or ``none``.
        prompts: which prompt each test example has, counted from 0, if some share one.
    """

    dev: Sequence[Batch]
    test: Sequence[Batch]
    test_points: str = "all"
    prompts: Sequence[int] | None = None


def write_values(path: Path, test: Evaluation) -> None:
    """Per-example losses (sums, nats), answer tokens and hits, for paired statistics.

    Also which prompt each example has, where some share one.
    """
    names = ("losses", "tokens", "correct", "prompts")
    values = {name: getattr(test, name) for name in names}
    write_text(path, to_json({k: v.tolist() for k, v in values.items() if v is not None}))


class Best:
    """Keeps the weights of the best point in the folder of the resume points until the run is over.

    A run that was killed goes on from an earlier step. Two points are therefore kept: the best so
    far, and the best up to the last resume point.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._resume_step = folder, 0

    def offer(self, model: Any, points: Sequence[Point]) -> None:
        """Keep the trained weights of ``model`` if the last of ``points`` is the best."""
        best, now = least(points).step, points[-1].step
        if best == now:
            trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
            self._folder.mkdir(parents=True, exist_ok=True)
            with temporary_folder(self._place(now)) as part:
                made = part / WEIGHTS
                save_file({n: p.detach().cpu().contiguous() for n, p in trained.items()}, made)
                move(made, self._place(now))
        self._forget({best, least(self._until(points)).step})

    def resumable(self, step: int, points: Sequence[Point]) -> None:
        """Note that the run would go on from ``step`` now; remove weights that cannot be needed."""
        self._resume_step = step
        self._forget({least(self._until(points)).step})

    def load(self, model: Any, step: int) -> None:
        """Give ``model`` the weights that were kept at ``step``."""
        with damaged_point(self._place(step)):
            kept = load_file(self._place(step))
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter.data.copy_(kept[name])

    def _until(self, points: Sequence[Point]) -> list[Point]:
        return [point for point in points if point.step <= self._resume_step]

    def _place(self, step: int) -> Path:
        return self._folder / f"best-{step}.safetensors"

    def _forget(self, wanted: set[int]) -> None:
        for path in {*self._folder.glob("best-*")} - {self._place(step) for step in wanted}:
            path.unlink()
        for left in self._folder.glob(".best-*"):  # by a kill: nobody else writes in this folder
            shutil.rmtree(left, ignore_errors=True)


class CurveCallback(TrainerCallback):
    """Evaluates at given steps and appends to ``curve.jsonl``; counts seconds and tokens.

    The seconds are saved with the Trainer's resume points, so a resumed run goes on counting. They
    are the seconds of training steps, without evaluations.
    """

    def __init__(
        self,
        path: Path,
        held: Held,
        steps: Sequence[int],
        clock: Clock,
        best: Best | None,
        ways: Ways,
    ) -> None:
        self.trainer: Any = None
        self.bar = NO_BAR
        self.ways = ways
        self._path, self._held = path, held
        self._steps = frozenset(steps[:-1])  # the end is evaluated by finish()
        self._clock, self._begin, self._best = clock, 0.0, best

    def start(self, model: Any) -> None:
        """Step 0 of a new run, with its per-example test values."""
        if is_first():
            self._path.unlink(missing_ok=True)
        test = self._add(model, 0, 0, read_test=self._held.test_points == "all")
        if is_first() and test:
            write_values(self._path.with_name(START_TEST), test)

    def finish(self, model: Any, step: int, tokens: int) -> tuple[Point, Evaluation | None]:
        """Evaluate the end of training and give ``model`` the weights that are kept.

        Returns:
            Their point of the curve and, unless test rows are not read, their test values.
        """
        test = self._add(model, step, tokens, read_test=self._held.test_points != "none")
        wait()  # the curve is whole
        points = read_curve(self._path)
        kept = least(points) if self._best else points[-1]
        if self._best and kept.step != step:
            self._best.load(model, kept.step)
            if test:
                test = self._read_test(model, "evaluating best")
                kept = replace(kept, test_loss=test.loss, test_accuracy=test.accuracy)
                wait()  # every process has read it
                self._write([kept if one.step == kept.step else one for one in points])
        return kept, test

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """On resuming, forget what came after the step that training goes on from."""
        if state.global_step:
            self.resume(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def resume(self, point: Path) -> None:
        """Go on from a resume point: take its clock, and drop points of the curve after it."""
        self._clock.go_on(point)
        last = step_of(point) or 0
        kept = [one for one in read_curve(self._path) if one.step <= last]
        kept = [one for one in kept if one.step < last or one.step in self._steps]
        check_curve(self._path, kept, {0, *(step for step in self._steps if step <= last)})
        self._write(kept)
        if self._best and is_first():
            self._best.resumable(last, kept)

    def _write(self, points: Sequence[Point]) -> None:
        if is_first():
            write_text(self._path, to_lines(one.to_json() for one in points))

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._begin = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # else the clock stops before the step does
        self._clock.train += time.perf_counter() - self._begin
        self.bar()
        if state.global_step in self._steps:
            wanted = control.should_log  # logging the point would take it for the training loss
            self._add(
                kwargs["model"], state.global_step, int(state.num_input_tokens_seen),
                read_test=self._held.test_points == "all",
            )  # fmt: skip
            control.should_log = wanted
        if state.global_step == self.ways.until:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if "loss" in kwargs["logs"]:
            self.bar.tell(f"training loss {kwargs['logs']['loss']:.4f}")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if is_first():
            self._clock.save(Path(args.output_dir) / f"checkpoint-{state.global_step}")
            if self._best:
                self._best.resumable(state.global_step, read_curve(self._path))

    def _add(self, model: Any, step: int, tokens: int, *, read_test: bool) -> Evaluation | None:
        """Add a point to the curve and return its test values."""
        dev = evaluate_showing(model, self._held.dev, self.ways.progress, "evaluating dev")
        test = self._read_test(model, "evaluating test") if read_test else None
        ends = [value for one in (dev, test) if one for value in (one.loss, one.accuracy)]
        point = Point(step, self._clock.train, tokens, *ends)
        values = point.to_json()
        if is_first():
            append_text(self._path, to_lines([values], is_start=not step))
            if self._best:
                self._best.offer(model, read_curve(self._path))
        if self.ways.on_point:
            self.ways.on_point(point, dev)
        self.trainer.log({name: value for name, value in values.items() if "_" in name})
        losses = [f"dev loss {dev.loss:.4f}", *([f"test loss {test.loss:.4f}"] if test else [])]
        self.bar.tell(", ".join(losses))
        return test

    def _read_test(self, model: Any, label: str) -> Evaluation:
        test = evaluate_showing(model, self._held.test, self.ways.progress, label)
        prompts = self._held.prompts
        return test if prompts is None else replace(test, prompts=np.array(prompts))
