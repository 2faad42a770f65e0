"""One run: start check, training, evaluation."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from transformers import PrinterCallback

from mashup._train.adapter import attach, detach
from mashup._train.check import check_start
from mashup._train.curve import Best, CurveCallback, Held, write_values
from mashup._train.finished import facts_of, save, write_about
from mashup._train.resume import RESUME, Clock, check_point, damaged_point, last_resume_point
from mashup._train.trainer import AnswerTrainer, Collator, arguments, curve_steps
from mashup._train.whole import fill
from mashup._train.work import Work
from mashup.checkpoint.adapter import WEIGHTS
from mashup.checkpoint.history import TRAINER_STATE, step_of
from mashup.checkpoint.read import is_whole
from mashup.errors import DivergedError, Problem
from mashup.evaluate.evaluate import Evaluation, batches_for
from mashup.files import read_json
from mashup.model.quiet import quiet_transformers
from mashup.processes import is_first, wait
from mashup.progress import Progress
from mashup.results.curve import CURVE, TEST, Point, check_curve, read_curve
from mashup.task import prompts_of


def fit(
    work: Work,
    begin: Callable[[], None],
    clock: Clock,
    *,
    accept_base: bool,
    callbacks: Sequence[Any],
    report_to: str,
    progress: Progress,
) -> dict[str, Any]:
    """Train and return the facts for ``run.json``.

    ``begin`` is called once all input has been found good, before anything is written.
    """
    base, settings, output = work.base, work.settings, work.output
    dev_batches, test_batches = (batches_for(base, s) for s in (work.tokens.dev, work.tokens.test))
    prompts = prompts_of(work.tokens.test)
    is_shared = len(set(prompts)) < len(prompts)
    held = Held(dev_batches, test_batches, settings.test_points, prompts if is_shared else None)
    check = None
    if work.init:
        check = check_start(
            base, work.init, held.dev, settings, accept_base=accept_base, progress=progress
        )
    dtype = base.dtype  # what it computes in; weights that are trained are float32 meanwhile
    points = curve_steps(work.steps, settings)
    curve_path = output / CURVE
    best = Best(output / RESUME) if settings.keep == "best" else None
    curve = CurveCallback(curve_path, held, points, clock, best, progress)
    with _attached(work) as model, quiet_transformers():
        args = arguments(settings, output / RESUME, work.steps, base.device, report_to)
        again = curve_path.exists()
        wait()  # every process has found its input good
        if is_first():
            begin()
        trainer = _trainer(work, model, args, curve, callbacks)
        kept, test = _train(trainer, curve, work, again, progress)
        wait()  # the curve is whole
        check_curve(curve_path, read_curve(curve_path), {0, *points})
        _refuse_diverged(output, kept, clock.train)
        facts = facts_of(model, work, kept, clock.train, check, dtype)
        if is_first():
            write_about(model, work, facts)
            save(model, work, dtype)
    if is_first() and test:
        write_values(output / TEST, test)
    return facts


def _trainer(
    work: Work, model: Any, args: Any, curve: CurveCallback, callbacks: Sequence[Any]
) -> AnswerTrainer:
    trainer = AnswerTrainer(
        model=model,
        args=args,
        train_dataset=list(work.tokens.train),
        data_collator=Collator(work.base.pad_id),
        callbacks=[curve, *callbacks],
    )
    trainer.remove_callback(PrinterCallback)
    curve.trainer = trainer
    return trainer


def _train(
    trainer: Any, curve: CurveCallback, work: Work, again: bool, progress: Progress
) -> tuple[Point, Evaluation | None]:
    """Train to the end; gives the point that is kept, and its test values."""
    resume, steps = last_resume_point(work.output / RESUME), work.steps
    begun = step_of(resume) or 0 if resume else 0
    if begun:
        progress.say(f"going on from step {begun} of {steps}")
    elif again:
        progress.say("starting again: it was stopped before its first resume point")
    with progress.bar(f"training {work.output.name}", steps, begun) as curve.bar:
        seen = _go_on(trainer, curve, resume, steps)
        return curve.finish(trainer.model, steps, seen)


def _go_on(trainer: Any, curve: CurveCallback, resume: Path | None, steps: int) -> int:
    """Train to the end, from a resume point if there is one; gives the tokens trained on."""
    if resume:
        check_point(resume)
    else:
        curve.start(trainer.model)
    if resume and step_of(resume) == steps:  # stopped in the last evaluation: no step is missing
        with damaged_point(resume):
            _refill(trainer.model, resume)
        curve.resume(resume)
        return int(read_json(resume / TRAINER_STATE)["num_input_tokens_seen"])
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    return int(trainer.state.num_input_tokens_seen)


def _refill(model: Any, resume: Path) -> None:
    from peft import set_peft_model_state_dict

    if is_whole(resume):
        fill(model, resume)
    else:
        set_peft_model_state_dict(model, load_file(resume / WEIGHTS))


@contextlib.contextmanager
def _attached(work: Work) -> Iterator[Any]:
    """The base made trainable; the bare base again afterwards."""
    bare = work.base.model
    frozen = {name: p.requires_grad for name, p in bare.named_parameters()}
    model = attach(bare, work.settings, work.init)
    saving = _recomputed(bare) if work.settings.gradient_checkpointing else contextlib.nullcontext()
    try:
        with saving:
            yield model
    finally:
        detach(model).eval()
        for name, parameter in bare.named_parameters():
            parameter.requires_grad_(frozen[name])


@contextlib.contextmanager
def _recomputed(bare: Any) -> Iterator[None]:
    """Activations are not kept for the backward pass, but computed again in it.

    transformers renamed the two methods within version 5.
    """
    names = ("activation_checkpointing", "gradient_checkpointing")
    name = next(one for one in names if hasattr(bare, f"{one}_enable"))
    getattr(bare, f"{name}_enable")(**{f"{name}_kwargs": {"use_reentrant": False}})
    try:
        yield
    finally:
        getattr(bare, f"{name}_disable")()


def _refuse_diverged(output: Path, kept: Point, seconds: float) -> None:
    loss = kept.dev_loss if kept.test_loss is None else kept.test_loss
    if not math.isfinite(loss):
        fix = "give a smaller --learning-rate"
        found = f"loss {loss} on held-out rows"
        problem = Problem("training diverged", str(output), found, "a number", fix)
        raise DivergedError(problem, seconds=seconds)
