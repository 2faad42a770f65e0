"""The way through one run: start check, training, evaluations, and what is left at the end."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PrinterCallback

from mashup._train.adapter import attach, detach, fill
from mashup._train.curve import Best, CurveCallback, Held, write_values
from mashup._train.finished import facts_of, lineage_of, save, write_about
from mashup._train.resume import RESUME, Clock, check_point, damaged_point, last_resume_point
from mashup._train.trainer import AnswerTrainer, Collator, Lineage, arguments, curve_steps
from mashup._train.work import Ways, Work
from mashup.checkpoint import open_checkpoint
from mashup.checkpoint.adapter import WEIGHTS
from mashup.checkpoint.history import TRAINER_STATE, step_of
from mashup.checkpoint.read import is_full_checkpoint
from mashup.errors import DivergedError, InputError, Problem, raise_all
from mashup.evaluate.batches import Batch
from mashup.evaluate.evaluate import Evaluation, batches_for, evaluate_showing, plain_batches
from mashup.evaluate.prefix import common_prefix, holds_prefix
from mashup.files import read_json
from mashup.model import Base, applied, base_shapes, fit_loaded, read_change
from mashup.model.base import quiet_transformers
from mashup.processes import is_first, wait
from mashup.progress import SILENT, Progress
from mashup.results.curve import CURVE, TEST, Point, check_curve, read_curve
from mashup.settings import TrainSettings
from mashup.task import prompts_of

#: Largest accepted difference between the loss of an init as scoring measures it and the loss of
#: the LoRA that will be trained: in nats per answer token for losses up to 1, as a share of larger
#: losses. Both compute the same in the same order; only the kernels may differ.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-3, torch.float16: 2e-3}


def fit(
    work: Work,
    begin: Callable[[dict[str, Any] | None], None],
    clock: Clock,
    ways: Ways,
    checked: dict[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Train and return the facts for ``run.json``; None when the run stops at ``ways.until``.

    Args:
        begin: called with the start check once all input has been found good, before anything
            is written.
        checked: the start check of an earlier go of this run; it is not made again.
    """
    base, settings, output = work.base, work.settings, work.output
    held = _held_out(work)
    if work.init and not checked:
        checked = check_start(
            base, work.init, held.dev, settings,
            accept_base=ways.accept_base, progress=ways.progress,
        )  # fmt: skip
    dtype = base.dtype  # what it computes in; weights that are trained are float32 meanwhile
    points, curve_path = curve_steps(work.steps, settings), output / CURVE
    best = Best(output / RESUME) if settings.keep == "best" else None
    curve = CurveCallback(curve_path, held, points, clock, best, ways)
    with _attached(work) as model, quiet_transformers():
        args = arguments(settings, output / RESUME, work.steps, base.device, ways.report_to)
        again = curve_path.exists()
        wait()  # every process has found its input good
        if is_first():
            begin(checked)
        trainer = _trainer(work, model, args, held, curve, ways.callbacks)
        end = _train(trainer, curve, work, again)
        if end is None:
            return None
        kept, test = end
        wait()  # the curve is whole
        check_curve(curve_path, read_curve(curve_path), {0, *points})
        _refuse_diverged(output, kept, clock.train)
        facts = facts_of(model, work, kept, clock.train, checked, dtype)
        if is_first():
            write_about(model, work, facts)
            save(model, work, dtype)
    if is_first() and test:
        write_values(output / TEST, test)
    return facts


def check_start(
    base: Base,
    init: Path,
    batches: Sequence[Batch],
    settings: TrainSettings,
    *,
    accept_base: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Check that an init belongs to this base, and measure it on the dev examples in two ways.

    The two ways are those of scoring (the delta is added to the weights) and of training (the
    trainable LoRA). A start that is only half loaded shows as a difference.

    Raises:
        InputError: the init does not fit the base, or the two losses differ.
    """
    start = time.perf_counter()
    opened = open_checkpoint(init)
    shapes = base_shapes(base)
    raise_all(fit_loaded(opened, shapes, base.model, accept_base=accept_base).problems)
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


def _held_out(work: Work) -> Held:
    dev, test = (batches_for(work.base, split) for split in (work.tokens.dev, work.tokens.test))
    prompts = prompts_of(work.tokens.test)
    is_shared = len(set(prompts)) < len(prompts)
    return Held(dev, test, work.settings.test_points, prompts if is_shared else None)


def _trainer(
    work: Work,
    model: Any,
    args: Any,
    held: Held,
    curve: CurveCallback,
    callbacks: Sequence[Any],
) -> AnswerTrainer:
    trainer = AnswerTrainer(
        prefix=_prefix(work, held),
        model=model,
        args=args,
        train_dataset=list(work.tokens.train),
        data_collator=Collator(work.base.pad_id),
        callbacks=[curve, Lineage(lineage_of(work)), *callbacks],
    )
    trainer.remove_callback(PrinterCallback)
    curve.trainer = trainer
    return trainer


def _prefix(work: Work, held: Held) -> int:
    """Tokens that all training rows begin with, where the model can run them once.

    The trial on the dev rows shows whether it can. Activations that are recomputed are no cache.
    """
    can = any(batch.prefix for batch in held.dev) and not work.settings.gradient_checkpointing
    rows = plain_batches(work.base, work.tokens.train) if can else ()
    prefix = common_prefix(rows)
    return prefix if holds_prefix(work.base.model, prefix) else 0


def _train(
    trainer: Any, curve: CurveCallback, work: Work, again: bool
) -> tuple[Point, Evaluation | None] | None:
    """Train from the last resume point, if there is one, to the end of this go.

    Returns:
        The point that is kept and its test values; None when the run stops before its last step.
    """
    resume, steps, ways = last_resume_point(work.output / RESUME), work.steps, curve.ways
    begun = step_of(resume) or 0 if resume else 0
    if begun:
        ways.progress.say(f"going on from step {begun} of {steps}")
    elif again:
        ways.progress.say("starting again: it was stopped before its first resume point")
    with ways.progress.bar(f"training {work.output.name}", steps, begun) as curve.bar:
        if resume:
            check_point(resume)
        else:
            curve.start(trainer.model)
        if resume and begun == steps:  # stopped in the last evaluation: no step is missing
            with damaged_point(resume):
                _refill(trainer.model, resume)
            curve.resume(resume)
            seen = int(read_json(resume / TRAINER_STATE)["num_input_tokens_seen"])
            return curve.finish(trainer.model, steps, seen)
        if begun < (ways.until or steps):
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        if trainer.state.global_step < steps:
            return None
        return curve.finish(trainer.model, steps, int(trainer.state.num_input_tokens_seen))


def _refill(model: Any, resume: Path) -> None:
    from peft import set_peft_model_state_dict

    if is_full_checkpoint(resume):
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
    """Compute activations again in the backward pass instead of keeping them.

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
        fix = "give a smaller `learning_rate`"
        found = f"loss {loss} on held-out rows"
        problem = Problem("training diverged", str(output), found, "a number", fix)
        raise DivergedError(problem, seconds=seconds)
