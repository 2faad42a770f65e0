"""The work of one run: tokens, start check, training, evaluation, the finished folder."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PrinterCallback, TrainerCallback

from mashup.checkpoint.adapter import WEIGHTS
from mashup.checkpoint.history import MANIFEST, PROMPTS, TRAINER_STATE, read_prompts, step_of
from mashup.checkpoint.read import is_whole
from mashup.errors import DivergedError, Problem
from mashup.files import digest_of, read_json, to_json, write_text
from mashup.merge.manifest import versions
from mashup.model import Base
from mashup.model.quiet import quiet_transformers
from mashup.processes import is_first, wait
from mashup.progress import Advance, Progress
from mashup.score.evaluate import Evaluation
from mashup.score.sample import batches_for
from mashup.score.store import sample_digest
from mashup.settings import TrainSettings
from mashup.task import Task, Tokens, tokenize
from mashup.train.adapter import attach, detach
from mashup.train.check import check_start
from mashup.train.curve import CLOCK, CURVE, TEST, CurveCallback, Held, read_curve, write_values
from mashup.train.trainer import AnswerTrainer, Collator, arguments, steps_of
from mashup.train.whole import fill, save_whole

RESUME = ".resume"


@dataclass(frozen=True)
class RunTokens:
    """Token ids of the three splits, made before anything is written."""

    train: tuple[Tokens, ...]
    dev: tuple[Tokens, ...]
    test: tuple[Tokens, ...]

    @property
    def digest(self) -> str:
        """Examples, splits, tokenizer and template are all in it."""
        return digest_of(*(sample_digest(split) for split in (self.train, self.dev, self.test)))


def run_tokens(base: Base, task: Task, settings: TrainSettings) -> RunTokens:
    """Tokenize a task for a run.

    Raises:
        InputError: rows that are too long or whose prompt is no prefix.
    """
    longest = min(settings.max_length, base.context)

    def made(split: str) -> tuple[Tokens, ...]:
        where = f"{task.name} ({split})"
        return tokenize(base.tokenizer, getattr(task, split), max_length=longest, where=where)

    return RunTokens(made("train"), made("dev"), made("test"))


def fit(
    base: Base,
    task: Task,
    tokens: RunTokens,
    init: Path | None,
    settings: TrainSettings,
    output: Path,
    begin: Callable[[], None],
    *,
    accept_base: bool,
    callbacks: Sequence[Any],
    report_to: str,
    progress: Progress,
) -> dict[str, Any]:
    """Train in ``output`` and return the facts for ``run.json``.

    ``begin`` is called once all input has been found good, before anything is written.
    """
    held = Held(batches_for(base, tokens.dev), batches_for(base, tokens.test))
    steps = steps_of(len(tokens.train), settings)
    check = None
    if init:
        check = check_start(
            base, init, held.dev, settings, accept_base=accept_base, progress=progress
        )
    dtype = base.dtype  # what it computes in; weights that are trained are float32 meanwhile
    points = curve_steps(steps, settings.evaluations)
    curve = CurveCallback(output / CURVE, held, points, progress)
    with _attached(base, settings, init) as model, quiet_transformers():
        args = arguments(settings, output / RESUME, steps, base.device, report_to)
        wait()  # every process has found its input good
        if is_first():
            begin()
        trainer = AnswerTrainer(
            model=model,
            args=args,
            train_dataset=list(tokens.train),
            data_collator=Collator(base.pad_id),
            callbacks=[curve, *callbacks],
        )
        trainer.remove_callback(PrinterCallback)
        curve.trainer = trainer
        with progress.bar(f"training {output.name}", steps) as advance:
            trainer.add_callback(_Advance(advance))
            seen = _train(trainer, curve, last_resume_point(output / RESUME), steps)
        test = curve.finish(model, steps, seen)
        wait()  # the curve is whole
        _refuse_diverged(output, test, curve.seconds)
        size = sum(p.numel() for p in model.parameters() if p.requires_grad)
        facts = {
            "steps": steps,
            "start_check": check,
            "train_seconds": curve.seconds,
            "trainable_parameters": size,
            "metrics": _metrics(output),
            "base_dtype": str(dtype),
            "versions": versions(),
        }
        if is_first():
            _write_about(output, base, task, init, settings, facts)
            _save(model, base, output, settings, dtype)
    if is_first():
        write_values(output / TEST, test)
        shutil.rmtree(output / RESUME, ignore_errors=True)
    return facts


def _train(trainer: Any, curve: CurveCallback, resume: Path | None, steps: int) -> int:
    """Train to the end, from a resume point if there is one; gives the tokens trained on."""
    if resume is None:
        curve.start(trainer.model)
    elif step_of(resume) == steps:  # stopped in the last evaluation: no step is missing
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


def curve_steps(steps: int, evaluations: int) -> tuple[int, ...]:
    """Evenly spread steps of the curve after step 0; the last is the end of training."""
    return tuple(sorted({round(steps * n / evaluations) for n in range(1, evaluations + 1)} - {0}))


def last_resume_point(folder: Path) -> Path | None:
    """The last complete resume point; those that a kill cut short are deleted."""
    complete = []
    for path in folder.glob("checkpoint-*"):
        if (path / CLOCK).exists():  # written last
            complete.append(path)
        elif is_first():
            shutil.rmtree(path)
    return max(complete, key=lambda path: step_of(path) or 0, default=None)


@contextlib.contextmanager
def _attached(base: Base, settings: TrainSettings, init: Path | None) -> Iterator[Any]:
    """The base made trainable; the bare base again afterwards."""
    frozen = {name: p.requires_grad for name, p in base.model.named_parameters()}
    model = attach(base.model, settings, init)
    try:
        yield model
    finally:
        detach(model).eval()
        for name, parameter in base.model.named_parameters():
            parameter.requires_grad_(frozen[name])


class _Advance(TrainerCallback):
    def __init__(self, advance: Advance) -> None:
        self._advance = advance

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._advance()


def _save(
    model: Any, base: Base, output: Path, settings: TrainSettings, dtype: torch.dtype
) -> None:
    """Weights and tokenizer, complete before they get their names."""
    part = output / ".part"
    shutil.rmtree(part, ignore_errors=True)
    if settings.is_full:
        save_whole(model, part, dtype)
    else:
        model.save_pretrained(part)
    base.tokenizer.save_pretrained(part)
    (part / "README.md").unlink(missing_ok=True)
    for path in sorted(part.iterdir(), key=lambda p: p.suffix != ".safetensors"):
        os.replace(path, output / path.name)
    part.rmdir()


def _refuse_diverged(output: Path, test: Evaluation, seconds: float) -> None:
    if not math.isfinite(test.loss):
        fix = "give a smaller --learning-rate"
        found = f"test loss {test.loss}"
        problem = Problem("training diverged", str(output), found, "a number", fix)
        raise DivergedError(problem, seconds=seconds)


def _metrics(output: Path) -> dict[str, float]:
    last = asdict(read_curve(output / CURVE)[-1])
    return {k: v for k, v in last.items() if k.startswith(("dev_", "test_"))}


def _write_about(
    output: Path,
    base: Base,
    task: Task,
    init: Path | None,
    settings: TrainSettings,
    facts: dict[str, Any],
) -> None:
    """What makes the run a checkpoint that later libraries understand."""
    manifest = {
        "kind": "run",
        "base": base.name,
        "base_digest": base.digest,
        "task": {"name": task.name, "digest": task.digest, "rows": len(task.train)},
        "init": str(init) if init else None,
        "settings": settings.model_dump(),
        **facts,
    }
    write_text(output / MANIFEST, to_json(manifest))
    keys = {example.prompt_key[:16] for example in task.train}
    keys |= read_prompts(init) if init else set()  # what the init has seen, this run has seen
    write_text(output / PROMPTS, "\n".join(sorted(keys)) + "\n")
