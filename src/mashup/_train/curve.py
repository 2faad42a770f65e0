"""The curve of a run: dev and test loss and accuracy over steps, seconds and tokens."""

from __future__ import annotations

import json
import os
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
from mashup.checkpoint.history import step_of
from mashup.evaluate.batches import Batch
from mashup.evaluate.evaluate import Evaluation, evaluate_showing
from mashup.files import move, to_json, write_text
from mashup.processes import is_first, wait
from mashup.progress import NO_BAR, SILENT, Progress
from mashup.results.curve import START_TEST, Point, check_curve, least, read_curve


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
    """The weights of a run's best point, kept beside its resume points until it is over.

    A run that is killed goes on from an earlier step: the best one up to the last resume point
    stays beside the best one so far.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._resume_step = folder, 0

    def offer(self, model: Any, points: Sequence[Point]) -> None:
        """Keep what is trained of ``model`` if the last of ``points``, where it is, is the best."""
        best, now = least(points).step, points[-1].step
        if best == now:
            trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
            self._folder.mkdir(parents=True, exist_ok=True)
            part = self._folder / "best.part"
            save_file({n: p.detach().cpu().contiguous() for n, p in trained.items()}, part)
            move(part, self._place(now))
        self._forget({best, least(self._until(points)).step})

    def resumable(self, step: int, points: Sequence[Point]) -> None:
        """From now on the run goes on from ``step``: what came before and is not best goes."""
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


class CurveCallback(TrainerCallback):
    """Evaluates at given steps and appends to ``curve.jsonl``; counts seconds and tokens.

    The seconds are kept beside the Trainer's resume points, so that a resumed run goes on
    counting. Those of the curve are of training steps; evaluations are not in them.
    """

    def __init__(
        self,
        path: Path,
        held: Held,
        steps: Sequence[int],
        clock: Clock,
        best: Best | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self.trainer: Any = None
        self.bar = NO_BAR
        self._path, self._held, self._progress = path, held, progress
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
        """The end of training, after which ``model`` has the weights that are kept.

        Gives their point of the curve and, unless test rows are not read, their test values.
        """
        test = self._add(model, step, tokens, read_test=self._held.test_points != "none")
        wait()  # the curve is whole
        points = read_curve(self._path)
        kept = least(points) if self._best else points[-1]
        if self._best and kept.step != step:
            self._best.load(model, kept.step)
            if test:
                test = evaluate_showing(model, self._held.test, self._progress, "evaluating best")
                kept = replace(kept, test_loss=test.loss, test_accuracy=test.accuracy)
                wait()  # every process has read it
                self._write([kept if one.step == kept.step else one for one in points])
        return kept, test

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """On resuming, forget what came after the step that training goes on from."""
        if state.global_step:
            self.resume(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def resume(self, point: Path) -> None:
        """Go on from a resume point: its clock, and no points of the curve after it."""
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
            write_text(self._path, "".join(json.dumps(one.to_json()) + "\n" for one in points))

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

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if "loss" in kwargs["logs"]:
            self.bar.tell(f"training loss {kwargs['logs']['loss']:.4f}")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if is_first():
            self._clock.save(Path(args.output_dir) / f"checkpoint-{state.global_step}")
            if self._best:
                self._best.resumable(state.global_step, read_curve(self._path))

    def _add(self, model: Any, step: int, tokens: int, *, read_test: bool) -> Evaluation | None:
        """A point of the curve; gives its test values."""
        dev = evaluate_showing(model, self._held.dev, self._progress, "evaluating dev")
        test = None
        if read_test:
            test = evaluate_showing(model, self._held.test, self._progress, "evaluating test")
            if self._held.prompts is not None:
                test = replace(test, prompts=np.array(self._held.prompts))
        ends = [value for one in (dev, test) if one for value in (one.loss, one.accuracy)]
        values = Point(step, self._clock.train, tokens, *ends).to_json()
        if is_first():
            with self._path.open("a") as stream:
                stream.write(json.dumps(values) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            if self._best:
                self._best.offer(model, read_curve(self._path))
        self.trainer.log({name: value for name, value in values.items() if "_" in name})
        losses = [f"dev loss {dev.loss:.4f}", *([f"test loss {test.loss:.4f}"] if test else [])]
        self.bar.tell(", ".join(losses))
        return test
