"""Train: one run from scratch or from an init, resumable, reused when nothing changed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mashup._merge.merge import Init
from mashup._train.adapter import unmatched_targets
from mashup._train.loop import fit
from mashup._train.record import FINISHED, RUN, Run, asked_of, finished_before, read_started
from mashup._train.resume import RESUME, Clock, last_resume_point
from mashup._train.tokens import RunTokens, run_tokens
from mashup._train.trainer import check_tracker
from mashup._train.work import Work
from mashup.checkpoint import check_base, locate, read_tensors
from mashup.checkpoint.history import read_prompts, step_of
from mashup.checkpoint.read import check_start
from mashup.errors import InputError, Problem
from mashup.files import (
    digest_of,
    disk_errors,
    folder_stamp,
    make_folder,
    only_one,
    refuse_existing,
    to_json,
    write_text,
)
from mashup.library import checkpoint_digest
from mashup.library.leakage import share_seen
from mashup.model import AnyBase, Base, load_base
from mashup.processes import is_first, wait
from mashup.progress import SILENT, Progress
from mashup.settings import TrainSettings
from mashup.task import Task, load_task

_CODE = 1  # raise it when the same settings would train differently


def train(
    base: AnyBase,
    task: Any,
    *,
    output: str | Path,
    init: Init | str | Path | None = None,
    settings: TrainSettings | None = None,
    accept_base: bool = False,
    callbacks: Sequence[Any] = (),
    report_to: str = "none",
    asked: str = "",
    progress: Progress = SILENT,
) -> Run:
    """Train a LoRA or all weights on a task, from scratch or from an init.

    The same call again continues a run that was killed and returns one that is finished.

    Args:
        base: a loaded base or its name, or a transformers model in memory.
        task: a loaded task, or its dataset as :func:`mashup.load_task` takes it.
        output: the folder of the run.
        init: an adapter folder to start from, or a whole model where all weights are trained:
            weights only, everything else is fresh.
        settings: see :class:`TrainSettings`.
        accept_base: take an init that names no base or another one.
        callbacks: transformers' TrainerCallbacks.
        report_to: trackers as transformers names them (``wandb``, ``tensorboard``, ...).
        asked: what the finished run can be known by without a base, as
            :func:`mashup._train.record.asked_of` gives it; made here where ``base`` is a name.
        progress: where to show a bar.

    Raises:
        InputError: bad input, an output of something else, or a start that does not compute
            what the init says.
    """
    settings, output, clock = settings or TrainSettings(), Path(output).absolute(), Clock()
    source = init.path if isinstance(init, Init) else Path(init) if init else None
    refuse_existing(output, RUN)
    if source is not None:
        check_start(source, full=settings.is_full)
    check_tracker(report_to)
    if isinstance(base, str | Path):
        check_base(base)
    task = task if isinstance(task, Task) else load_task(task)
    if isinstance(base, str | Path):
        asked = asked_of(folder_stamp(Path(base)), "auto", task, source, settings)
        if done := finished_before(output, asked):
            progress.say(FINISHED)
            _tidy(output)
            return done
    base = load_base(base)
    for target in () if source else unmatched_targets(base.model, settings):
        progress.say(f"note: no module of the base is called {target} (lora_target_modules)")
    _refuse_quantised(base, settings)
    tokens = run_tokens(base, task, settings)
    for split, count in tokens.long.items():
        whole = len(getattr(task, split))
        progress.say(f"left out {count} of {whole} rows of {split}: too long")
    if source and (share := share_seen(read_prompts(source), task)):
        progress.say(
            f"note: {source} was trained on {share:.0%} of the dev and test prompts of "
            f"{task.name}: results on these rows are memory"
        )
    config = _config(base, task, tokens, source, settings)
    with only_one(output) if is_first() else contextlib.nullcontext():
        known = read_started(output) if (output / RUN).exists() else {}
        if known:
            _refuse_other(output, known, config)
        else:
            refuse_existing(output)
        if known.get("status") == "finished":
            progress.say(FINISHED)
        else:
            _say_precision(base, settings, progress)
            work = Work(base, task, tokens, source, settings, output)
            with disk_errors(output), _saying_what_is_saved(work, progress):
                _fit(
                    work, config, asked, clock,
                    accept_base=accept_base, callbacks=callbacks, report_to=report_to,
                    progress=progress,
                )  # fmt: skip
            wait()
    _tidy(output)
    return Run.open(output)


def _fit(work: Work, config: dict[str, Any], asked: str, clock: Clock, **words: Any) -> None:
    """Train, and note the beginning and the end in ``run.json``."""
    path, known = work.output / RUN, {"version": 1, "digest": digest_of(config), "config": config}

    def begin() -> None:
        make_folder(work.output)
        write_text(path, to_json(known | {"status": "running"}))

    facts = fit(work, begin, clock, **words)
    if is_first():
        ended = {"status": "finished", "asked": asked, "total_seconds": clock.total}
        write_text(path, to_json(known | facts | ended))


@contextlib.contextmanager
def _saying_what_is_saved(work: Work, progress: Progress) -> Iterator[None]:
    """Where a run that is stopped (Ctrl-C, SIGTERM) goes on."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        point = last_resume_point(work.output / RESUME)
        if point:
            progress.say(f"saved up to step {step_of(point)} of {work.steps}")
        else:
            progress.say("stopped before its first resume point: nothing is saved")
        raise


def _tidy(output: Path) -> None:
    """A finished run has no resume points; those that a kill left go now."""
    if is_first() and (output / RESUME).exists():
        with only_one(output):
            shutil.rmtree(output / RESUME, ignore_errors=True)


def _refuse_quantised(base: Base, settings: TrainSettings) -> None:
    """Weights in few bits have no gradients; adapters beside them do."""
    if settings.is_full and not all(one.is_floating_point() for one in base.model.parameters()):
        found, expected = "a quantised base", "weights in floating point"
        fix = "train a LoRA on it (--finetuning-type lora), or load the base unquantised"
        raise InputError(Problem("cannot train all weights", base.name, found, expected, fix))


def _say_precision(base: Base, settings: TrainSettings, progress: Progress) -> None:
    """Say it where all weights of a float32 base will be saved in less."""
    if not settings.is_full or base.dtype.itemsize >= 4:
        return
    with contextlib.suppress(InputError):  # loaded from something else than safetensors
        if "F32" in {one.info.dtype for one in read_tensors(locate(base.name)).values()}:
            name = str(base.dtype).removeprefix("torch.")
            progress.say(
                f"the base is stored in float32 and computes in {name}: the result is saved in "
                f"{name}; give --dtype float32 to keep float32"
            )


def _config(
    base: Base, task: Task, tokens: RunTokens, init: Path | None, settings: TrainSettings
) -> dict[str, Any]:
    """All that decides a run."""
    return {
        "code": _CODE,
        "base": base.about,
        "task": {"name": task.name, "digest": task.digest},
        "tokens": tokens.digest,
        "init": {"path": str(init), "digest": checkpoint_digest(init)} if init else None,
        "settings": settings.model_dump(),
    }


def _refuse_other(output: Path, known: dict[str, Any], config: dict[str, Any]) -> None:
    """A folder of a run is reused only by the same run; names and paths may differ."""
    old, new = _flat(_filled(known["config"])), _flat(_filled(config))
    different = [
        f"{key}: {old.get(key)} there, {new.get(key)} now"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.endswith((".name", ".path"))
    ]
    if different:
        fix = "choose another `output`, or give the settings of that run"
        found = "a run with other settings (" + "; ".join(different) + ")"
        raise InputError(Problem("output exists already", str(output), found, "this run", fix))


def _filled(config: dict[str, Any]) -> dict[str, Any]:
    """Settings that are not noted, or that an earlier version did not have, are the defaults."""
    defaults = {name: field.default for name, field in TrainSettings.model_fields.items()}
    return config | {"settings": defaults | config["settings"]}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{prefix}.{key}" if prefix else key)
    return flat
