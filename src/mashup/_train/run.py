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
from mashup._train.trainer import check_tracker
from mashup._train.work import RunTokens, Ways, Work, run_tokens
from mashup.checkpoint import check_base, locate, read_tensors
from mashup.checkpoint.history import read_prompts, step_of
from mashup.checkpoint.read import check_start
from mashup.errors import InputError, Problem
from mashup.files import digest_of, folder_stamp
from mashup.library import checkpoint_digest
from mashup.library.leakage import share_seen
from mashup.library.sources import folder_of
from mashup.model import AnyBase, Base, load_base
from mashup.outputs import disk_errors, make_folder, only_one, refuse_existing, to_json, write_text
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

    The same call again continues a run that was killed, and returns a run that is finished.

    Args:
        base: a loaded base or its name, or a transformers model in memory.
        task: a loaded task, or its dataset as :func:`mashup.load_task` takes it.
        output: the folder of the run.
        init: an adapter folder to start from, or a full checkpoint where all weights are trained:
            weights only, everything else is fresh. Also ``hub:OWNER/NAME[@COMMIT[/FOLDER]]``.
        settings: see :class:`TrainSettings`; without them the defaults, and the best point is kept.
        accept_base: take an init that names no base or another one.
        callbacks: transformers' TrainerCallbacks.
        report_to: trackers as transformers names them (``wandb``, ``tensorboard``, ...).
        asked: digest by which the finished run is recognised without loading the base, as
            :func:`mashup._train.record.asked_of` gives it; made here where ``base`` is a name.
        progress: where to show a bar.

    Raises:
        InputError: bad input, an output of something else, or a start that does not compute
            what the init says.
    """
    settings, output = settings or TrainSettings(keep="best"), Path(output).absolute()
    source = init.path if isinstance(init, Init) else folder_of(init) if init else None
    ways = Ways(accept_base, callbacks, report_to, progress)
    done = train_until(
        base, task, output=output, init=source, settings=settings, ways=ways, asked=asked
    )
    assert done is not None  # only runs with `until` stop on the way
    return done


def train_until(
    base: AnyBase,
    task: Any,
    *,
    output: Path,
    init: Path | None,
    settings: TrainSettings,
    ways: Ways,
    asked: str = "",
    tokens: RunTokens | None = None,
) -> Run | None:
    """:func:`train` that may stop on the way: None when it stopped at ``ways.until``.

    The same call with a later ``until`` goes on, and the result is that of a run that never
    stopped. ``tokens`` are those of the task, where the caller has made them already.

    Raises:
        InputError: as :func:`train`.
    """
    clock, progress = Clock(), ways.progress
    refuse_existing(output, RUN)
    if init is not None:
        check_start(init, full=settings.is_full)
    check_tracker(ways.report_to)
    if isinstance(base, str | Path):
        check_base(base)
    task = task if isinstance(task, Task) else load_task(task)
    if isinstance(base, str | Path):
        asked = asked_of(folder_stamp(Path(base)), "auto", task, init, settings)
        if done := finished_before(output, asked):
            progress.say(FINISHED)
            _tidy(output)
            return done
    base = load_base(base)
    _refuse_quantised(base, settings)
    tokens = tokens or run_tokens(base, task, settings)
    work = Work(base, task, tokens, init, settings, output)
    _say_notes(work, progress)
    with only_one(output) if is_first() else contextlib.nullcontext():
        is_over = _go(work, asked, clock, ways)
    if not is_over:
        return None
    _tidy(output)
    return Run.open(output)


def _go(work: Work, asked: str, clock: Clock, ways: Ways) -> bool:
    """One go of a run that may have been started before; whether it is finished now."""
    output, path, config = work.output, work.output / RUN, _config(work)
    known = read_started(output) if path.exists() else {}
    if known:
        _refuse_other(output, known, config)
    else:
        refuse_existing(output)
    if known.get("status") == "finished":
        ways.progress.say(FINISHED)
        return True
    _say_precision(work.base, work.settings, ways.progress)
    noted: dict[str, Any] = {"version": 1, "digest": digest_of(config), "config": config}

    def begin(checked: dict[str, Any] | None) -> None:
        make_folder(output)
        started = (
            {"status": "running", "start_check": checked} if checked else {"status": "running"}
        )
        write_text(path, to_json(noted | started))

    with disk_errors(output), _saying_what_is_saved(work, ways.progress):
        facts = fit(work, begin, clock, ways, known.get("start_check"))
        if facts and is_first():
            ended = {"status": "finished", "asked": asked, "total_seconds": clock.total}
            write_text(path, to_json(noted | facts | ended))
    wait()
    return facts is not None


def _say_notes(work: Work, progress: Progress) -> None:
    """Say what a user may not expect of this input."""
    for target in () if work.init else unmatched_targets(work.base.model, work.settings):
        progress.say(f"note: no module of the base is called {target} (lora_target_modules)")
    for split, count in work.tokens.long.items():
        whole = len(getattr(work.task, split))
        progress.say(f"left out {count} of {whole} rows of {split}: too long")
    if work.init and (share := share_seen(read_prompts(work.init), work.task)):
        progress.say(
            f"note: {work.init} was trained on {share:.0%} of the dev and test prompts of "
            f"{work.task.name}: results on these rows are memory"
        )


@contextlib.contextmanager
def _saying_what_is_saved(work: Work, progress: Progress) -> Iterator[None]:
    """Where a run that is stopped (Ctrl-C, SIGTERM) goes on."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        point = last_resume_point(work.output / RESUME)
        name = work.output.name  # a race or a comparison has many runs
        if point:
            progress.say(f"{name}: saved up to step {step_of(point)} of {work.steps}")
        else:
            progress.say(f"{name}: no step is saved yet; this run begins again")
        raise


def _tidy(output: Path) -> None:
    """A finished run has no resume points; those that a kill left go now."""
    if is_first() and (output / RESUME).exists():
        with only_one(output):
            shutil.rmtree(output / RESUME, ignore_errors=True)


def _refuse_quantised(base: Base, settings: TrainSettings) -> None:
    """Weights in few bits have no gradients; adapters on them do."""
    if settings.is_full and not all(one.is_floating_point() for one in base.model.parameters()):
        found, expected = "a quantised base", "weights in floating point"
        fix = "give `finetuning_type` lora, or load the base unquantised"
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
                f"{name}; load the base in float32 to keep float32"
            )


def _config(work: Work) -> dict[str, Any]:
    """All that decides a run."""
    init = work.init
    return {
        "code": _CODE,
        "base": work.base.about,
        "task": {"name": work.task.name, "digest": work.task.digest},
        "tokens": work.tokens.digest,
        "init": {"path": str(init), "digest": checkpoint_digest(init)} if init else None,
        "settings": work.settings.model_dump(),
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
