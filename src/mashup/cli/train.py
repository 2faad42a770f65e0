"""``mashup train``: one run, from scratch or from an init."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from pydantic import Field

from mashup.cli import show
from mashup.cli.common import BestOptions, DataOptions, ModelOptions, start_of
from mashup.cli.options import JsonOption, add_command
from mashup.errors import gather
from mashup.files import folder_stamp
from mashup.processes import is_first
from mashup.settings import TrainSettings


class TrainOptions(ModelOptions, DataOptions, BestOptions, JsonOption):
    output: str = Field(description="folder of the run")
    init: str | None = Field(
        None,
        description="checkpoint to start from, a folder or hub:OWNER/NAME: a LoRA, or a full "
        "checkpoint if all weights train",
    )
    load_in_4bit: bool = Field(False, description="the base in 4 bits, through bitsandbytes")
    accept_base: bool = Field(False, description="accept an init that names no base, or another")
    report_to: str = Field("none", description="tracker, as transformers names it, e.g. wandb")


def register(app: typer.Typer) -> None:
    add_command(app, "train", TrainOptions, run, many=True)


def run(options: TrainOptions) -> None:
    """Train a LoRA on a task; the same command again continues a run that was stopped."""
    from mashup._train.record import FINISHED, asked_of, finished_before
    from mashup.progress import SILENT, Bars

    progress = Bars() if is_first() else SILENT
    task, init = _inputs(options)
    settings = options.cut_to(TrainSettings)
    stamp = folder_stamp(Path(options.model))
    how = f"{options.attn_implementation}{', 4 bits' if options.load_in_4bit else ''}"
    asked = asked_of(stamp, how, task, init, settings)
    done = finished_before(Path(options.output), asked, options.dtype)
    if done:
        progress.say(FINISHED)
    else:
        done = _train(options, task, init, settings, asked, progress)
    if not is_first():
        return
    if options.json_:
        show.print_json(done.record)
    else:
        _print(done)


def _train(
    options: TrainOptions,
    task: Any,
    init: Path | None,
    settings: TrainSettings,
    asked: str,
    progress: Any,
) -> Any:
    base = options.load_base(load_in_4bit=options.load_in_4bit)
    from mashup._train.run import train

    if not (Path(options.output) / "run.json").exists():
        start = f"weights of {options.init}; optimizer, schedule and data order are fresh"
        progress.say(f"start: {start if options.init else 'from scratch'}")
    return train(
        base,
        task,
        output=options.output,
        init=init,
        settings=settings,
        accept_base=options.accept_base,
        report_to=options.report_to,
        asked=asked,
        progress=progress,
    )


def _inputs(options: TrainOptions) -> tuple[Any, Path | None]:
    """Task and folder of the init, once all that can be checked without torch was."""
    from mashup.checkpoint import check_base
    from mashup.outputs import refuse_existing

    full = options.cut_to(TrainSettings).is_full
    _, init, _, task = gather(
        lambda: refuse_existing(Path(options.output), "run.json"),
        lambda: start_of(options.init, full=full) if options.init is not None else None,
        lambda: check_base(options.model),
        options.load_task,
    )
    ignored = {"lora_r", "lora_alpha", "lora_target_modules"} & options.model_fields_set
    for name in sorted(ignored) if options.init is not None and is_first() else ():
        flag = f"--{name.replace('_', '-')}"
        show.note(f"note: {flag} has no effect with --init: the init has its own")
    if options.report_to != "none":
        from mashup._train.trainer import check_tracker

        check_tracker(options.report_to)
    return task, init


def _print(done: Any) -> None:
    columns = ("", "step", "seconds", "tokens", "dev loss", "dev acc.", "test loss", "test acc.")
    rows = [
        (
            *("*" if p == done.kept else "", str(p.step), f"{p.seconds:.1f}", f"{p.tokens:,}"),
            *(f"{p.dev_loss:.4f}", f"{p.dev_accuracy:.1%}"),
            "–" if p.test_loss is None else f"{p.test_loss:.4f}",
            "–" if p.test_accuracy is None else f"{p.test_accuracy:.1%}",
        )
        for p in done.curve
    ]
    show.table(columns, rows, numbers=columns[1:])
    why = "" if done.kept == done.last else ", which have the lowest dev loss"
    show.line(f"* kept: the weights of step {done.kept.step}{why}")
    check = done.record["start_check"]
    if check:
        show.line(
            f"start check: dev loss {check['step_0_loss']:.4f} at step 0, "
            f"{check['scored_loss']:.4f} as scoring measures it"
        )
    show.line(f"written: {done.path}")
