"""The work of one run: tokens, start check, training, evaluation, the finished folder."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, TrainerCallback

from mashup.checkpoint.history import MANIFEST
from mashup.errors import DivergedError, Problem
from mashup.files import to_json, write_text
from mashup.merge.manifest import versions
from mashup.model import Base
from mashup.model.quiet import quiet_transformers
from mashup.progress import Advance, Progress
from mashup.score.evaluate import Evaluation
from mashup.score.exhaustive import batches_for
from mashup.settings import TrainSettings
from mashup.task import Task, Tokens, tokenize
from mashup.train.adapter import attach, detach
from mashup.train.check import check_start
from mashup.train.curve import CLOCK, CurveCallback, Held, read_curve
from mashup.train.trainer import AnswerTrainer, Collator, arguments, steps_of

RESUME = ".resume"
PROMPTS = "train_prompts.txt"


def fit(
    base: Base,
    task: Task,
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
    train_tokens = _tokens(base, task, "train", settings)
    held = Held(*(batches_for(base, _tokens(base, task, s, settings)) for s in ("dev", "test")))
    steps = steps_of(len(train_tokens), settings)
    check = None
    if init:
        check = check_start(
            base, init, held.dev, settings, accept_base=accept_base, progress=progress
        )
    points = curve_steps(steps, settings.evaluations)
    curve = CurveCallback(output / "curve.jsonl", held, points, progress)
    with _attached(base, settings, init) as model, quiet_transformers():
        args = arguments(settings, output / RESUME, steps, base.device, report_to)
        begin()
        trainer = AnswerTrainer(
            model=model,
            args=args,
            train_dataset=list(train_tokens),
            data_collator=Collator(base.pad_id),
            callbacks=[curve, *callbacks],
        )
        trainer.remove_callback(PrinterCallback)
        curve.trainer = trainer
        with progress.bar(f"training {output.name}", steps) as advance:
            trainer.add_callback(_Advance(advance))
            resume = last_resume_point(output / RESUME)
            if resume is None:
                curve.start(model)
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        test = curve.finish(model, steps, int(trainer.state.num_input_tokens_seen))
        _refuse_diverged(output, test)
        _save(model, base, output)
    facts = {
        "steps": steps,
        "start_check": check,
        "train_seconds": curve.seconds,
        "metrics": _metrics(output),
        "versions": versions(),
    }
    _write_about(output, base, task, init, settings, facts)
    values = {"losses": test.losses.tolist(), "tokens": test.tokens.tolist()}
    write_text(output / "test.json", to_json(values | {"correct": test.correct.tolist()}))
    shutil.rmtree(output / RESUME, ignore_errors=True)
    return facts


def curve_steps(steps: int, evaluations: int) -> tuple[int, ...]:
    """Evenly spread steps of the curve after step 0; the last is the end of training."""
    return tuple(sorted({round(steps * n / evaluations) for n in range(1, evaluations + 1)} - {0}))


def last_resume_point(folder: Path) -> Path | None:
    """The last complete resume point; those that a kill cut short are deleted."""
    complete = []
    for path in folder.glob("checkpoint-*"):
        if (path / CLOCK).exists():  # written last
            complete.append(path)
        else:
            shutil.rmtree(path)
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _tokens(base: Base, task: Task, split: str, settings: TrainSettings) -> tuple[Tokens, ...]:
    longest = min(settings.max_length, base.context)
    where = f"{task.name} ({split})"
    return tokenize(base.tokenizer, getattr(task, split), max_length=longest, where=where)


@contextlib.contextmanager
def _attached(base: Base, settings: TrainSettings, init: Path | None) -> Iterator[Any]:
    """The base with a trainable adapter on it; the bare base again afterwards."""
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


def _save(model: Any, base: Base, output: Path) -> None:
    """Adapter and tokenizer, complete before they get their names."""
    part = output / ".part"
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    base.tokenizer.save_pretrained(part)
    (part / "README.md").unlink(missing_ok=True)
    for path in sorted(part.iterdir(), key=lambda p: p.suffix != ".safetensors"):
        os.replace(path, output / path.name)
    part.rmdir()


def _refuse_diverged(output: Path, test: Evaluation) -> None:
    if not math.isfinite(test.loss):
        fix = "give a smaller --learning-rate"
        found = f"test loss {test.loss}"
        raise DivergedError(Problem("training diverged", str(output), found, "a number", fix))


def _metrics(output: Path) -> dict[str, float]:
    last = asdict(read_curve(output / "curve.jsonl")[-1])
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
    keys = sorted({example.prompt_key[:16] for example in task.train})
    write_text(output / PROMPTS, "\n".join(keys) + "\n")
