"""A ``transformers.Trainer`` whose loss runs the head only where an answer is predicted."""

from __future__ import annotations

import difflib
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Trainer, TrainerCallback, TrainingArguments

from mashup._train.adapter import fill
from mashup._train.passes import attention_for, is_noisy, summed_loss
from mashup._train.resume import damaged_point
from mashup.checkpoint.read import is_full_checkpoint
from mashup.errors import Problem, UsageError
from mashup.evaluate.batches import Batch, pad, predicting
from mashup.evaluate.head import head_only_at
from mashup.processes import process_count
from mashup.settings import LEAST_STEPS, TrainSettings
from mashup.task import Tokens


class AnswerTrainer(Trainer):
    """Trains on answer tokens: their losses are summed and divided once a step.

    The divisor is the number of answer tokens of the whole step over all micro-batches and
    processes, so gradient accumulation gives the numbers of one large batch. Everything else
    is transformers': accelerate, callbacks, trackers, resuming.
    """

    def __init__(self, *, prefix: int = 0, **kwargs: Any) -> None:
        """As transformers' Trainer.

        Args:
            prefix: tokens that all training rows begin with and that the model can run once.
        """
        super().__init__(compute_loss_func=answer_loss, **kwargs)
        # Several passes would draw other random numbers, or wake other processes several times.
        self._in_passes = process_count() == 1 and not is_noisy(self.model)
        self._prefix = prefix

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load a resume point's weights.

        transformers' own method looks tensors of a full model up by name and skips missing names.
        Where names were changed on saving, that skips all of them.

        Raises:
            InputError: a full checkpoint of other tensors or shapes.
        """
        if is_full_checkpoint(Path(resume_from_checkpoint)):
            with damaged_point(resume_from_checkpoint):
                fill(self.model if model is None else model, Path(resume_from_checkpoint))
        else:
            with damaged_point(resume_from_checkpoint):
                super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with damaged_point(checkpoint or ""):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with damaged_point(checkpoint or ""):
            super()._load_rng_state(checkpoint)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        ids, labels, seen = inputs["input_ids"], inputs["labels"], inputs.pop("seen", ())
        with attention_for(ids, self.model.dtype):
            if seen or (self._in_passes and not return_outputs):
                mask, answer = inputs["attention_mask"], labels != -100
                batch = Batch(torch.arange(len(labels)), ids, mask, answer)
                total = summed_loss(model, batch, self._prefix, seen)
                return _divided(total, labels, num_items_in_batch)
            with head_only_at(model, predicting(labels != -100)):
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


def answer_loss(output: Any, labels: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
    """Cross-entropy over the answer tokens of a micro-batch, divided by those of the step."""
    logits = output.logits[0].float()
    targets = labels[labels != -100].to(logits.device)
    return _divided(F.cross_entropy(logits, targets, reduction="sum"), labels, num_items_in_batch)


def _divided(total: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
    """``total`` by the answer tokens of the step; of the micro-batch if these are not given."""
    count = (labels != -100).sum() if num_items_in_batch is None else num_items_in_batch
    return total / count


class Collator:
    """Tokens of some examples to the Trainer's inputs, padded on the right."""

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, tokens: Sequence[Tokens]) -> dict[str, Any]:
        ids, mask, answer = pad(tokens, self._pad_id)
        labels = torch.where(answer, ids, torch.full_like(ids, -100))
        made: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        seen = tuple(one.seen for one in tokens if one.seen)
        return made | {"seen": seen} if seen else made


def check_tracker(report_to: str) -> None:
    """Refuse trackers that transformers does not know or that are not installed.

    Each is created once here, because transformers checks for its package only then.

    Raises:
        UsageError: with what can be used.
    """
    if report_to == "none":
        return
    from transformers.integrations import get_reporting_integration_callbacks

    try:
        for callback in get_reporting_integration_callbacks([report_to]):
            callback()  # raises if its package is missing, as it would during the run
    except (ValueError, RuntimeError, ImportError) as error:
        fix = "install the tracker, or give another `report_to`"
        found = " ".join(str(error).split())
        raise UsageError(Problem("unknown tracker", "`report_to`", found, fix=fix)) from error


class Lineage(TrainerCallback):
    """Tells the trackers of a run what it starts from; they have opened their runs before it."""

    def __init__(self, about: Mapping[str, str]) -> None:
        self._about = {f"mashup.{name}": text for name, text in about.items()}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        mlflow, wandb = (sys.modules.get(name) for name in ("mlflow", "wandb"))
        if "mlflow" in args.report_to and mlflow and mlflow.active_run():
            mlflow.set_tags(self._about)
        if "wandb" in args.report_to and wandb and wandb.run:
            wandb.run.config.update(self._about, allow_val_change=True)


def steps_of(examples: int, settings: TrainSettings) -> int:
    """Optimizer steps of a run; the last step of an epoch may have fewer examples."""
    if settings.max_steps is not None:
        return settings.max_steps
    per_epoch = math.ceil(examples / settings.batch_size)
    if settings.epochs is None:
        return max(LEAST_STEPS, per_epoch)
    return max(1, math.ceil(per_epoch * settings.epochs))


def split_batch(settings: TrainSettings) -> tuple[int, int]:
    """Examples a forward pass of one process, and forward passes a step.

    A step has ``settings.batch_size`` examples over all processes: a run is the same run however
    many devices it has.

    Raises:
        UsageError: a batch that does not go evenly into the processes and passes; weights that
            would be sharded.
    """
    _refuse_shards()
    count = process_count()
    size = min(settings.micro_size, max(1, settings.batch_size // count))
    if settings.batch_size % (size * count):
        found = f"{settings.batch_size} examples over {count} processes, {size} a pass"
        fix = "give a `batch_size`, or a `micro_batch_size`, that divides evenly"
        raise UsageError(Problem("uneven batch", "`batch_size`", found, fix=fix))
    return size, settings.batch_size // (size * count)


def steps_between(given: float | None, steps: int) -> int | None:
    """``eval_steps`` or ``logging_steps`` as a number: a share below 1 is of all steps, rounded up.

    The meaning is that of transformers' TrainingArguments.
    """
    return None if given is None else math.ceil(steps * given if given < 1 else given)


def curve_steps(steps: int, settings: TrainSettings) -> tuple[int, ...]:
    """Steps of the curve after step 0, evenly spread; the last is the end of training."""
    count, apart = settings.evaluations, steps_between(settings.eval_steps, steps)
    if apart:
        return (*range(apart, steps, apart), steps)
    return tuple(sorted({round(steps * n / count) for n in range(1, count + 1)} - {0}))


def check_optimizer(name: str) -> None:
    """Refuse optimizers that transformers does not know or whose package is not installed.

    Raises:
        UsageError: with what can be used.
    """
    from torch import nn
    from transformers.training_args import OptimizerNames

    known = [str(one.value) for one in OptimizerNames]
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        fix = f"did you mean {close[0]}?" if close else "give `optim` adamw_torch"
        raise UsageError(Problem("unknown optimizer", "`optim`", name, ", ".join(known), fix))
    try:
        arguments = TrainingArguments(output_dir=os.devnull, optim=name, report_to="none")
        Trainer.get_optimizer_cls_and_kwargs(arguments, nn.Linear(1, 1))
    except (ValueError, RuntimeError, ImportError) as error:
        fix = "install what it needs, or give another `optim`"
        found = " ".join(str(error).split())
        raise UsageError(Problem("cannot use optimizer", "`optim`", found, fix=fix)) from error


def _refuse_shards() -> None:
    """Every process needs the whole model: to be measured during training, and to be saved."""
    for name in ("FSDP", "DEEPSPEED"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true":
            fix = (
                "launch without it: each process then has the whole model; for a sharded model, "
                "train from the init with TRL, axolotl or ms-swift (docs/use-the-init.md)"
            )
            problem = Problem("sharded training", "accelerate launch", name, fix=fix)
            raise UsageError(problem)


def arguments(
    settings: TrainSettings, output: Path, steps: int, device: torch.device, report_to: str
) -> TrainingArguments:
    """The Trainer's arguments for ``settings``; resume points go to ``output``."""
    size, passes = split_batch(settings)  # refuses shards before TrainingArguments sees them
    check_optimizer(settings.optim)
    made = TrainingArguments(
        output_dir=str(output),
        max_steps=steps,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=passes,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.scheduler
        if settings.scheduler != "constant"
        else "constant_with_warmup",
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim=settings.optim,
        seed=settings.seed,
        data_seed=settings.seed,
        save_strategy="steps",
        save_steps=settings.save_steps,
        logging_strategy="steps",
        logging_steps=steps_between(settings.logging_steps, steps) or max(1, steps // 10),
        include_num_input_tokens_seen="non_padding",
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
        disable_tqdm=True,
        report_to=report_to,
        use_cpu=device.type == "cpu",
    )
    made._n_gpu = min(made.n_gpu, 1)  # one process, one device; more go through accelerate
    return made
