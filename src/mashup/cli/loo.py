"""``mashup loo``: a leave-one-out experiment from a YAML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import typer
from pydantic import Field

from mashup.cli import show
from mashup.cli.options import JsonOption, add_command, positional
from mashup.errors import Problem, UsageError, gather
from mashup.processes import is_first
from mashup.progress import duration
from mashup.settings import Name


class LooOptions(JsonOption):
    experiment: str = positional("YAML file; with --status the folder of an experiment")
    output: str | None = Field(
        None, description="folder for results; by default the name of the file"
    )
    jobs: str | None = Field(
        None, description="folder of finished jobs, to share them; by default OUTPUT/jobs"
    )
    model: str | None = Field(None, description="base model, instead of the file's")
    data: str | None = Field(None, description="folder of the tasks' data, instead of the file's")
    arms: tuple[Name, ...] = Field(
        (), description="arms and variants to run, instead of the file's"
    )
    dry_run: bool = Field(False, description="print jobs, seconds and disk space, and stop")
    status: bool = Field(False, description="print how far the experiment is, and stop")


def register(app: typer.Typer) -> None:
    add_command(app, "loo", LooOptions, run, many=True)


def run(options: LooOptions) -> None:
    """Leave each task out once and start it from the others; continue what was stopped."""
    experiment, output = _inputs(options)
    _check(experiment, output)
    from mashup.loo.run import prepare, run_experiment

    prepared = prepare(experiment, output, jobs=_jobs(options))
    for note in prepared.notes if is_first() else ():
        show.note(note)
    if options.dry_run:
        if not prepared.is_measured:
            show.note("loading the base to measure its speed ...")
        _print_jobs(prepared.measured(), as_json=options.json_)
        return
    if options.status:
        _print_status(prepared, as_json=options.json_)
        return
    if not is_first():
        run_experiment(prepared)
        return
    board = show.Board()
    with board.shown(prepared.status):
        records = run_experiment(prepared, progress=board, watch=board.watch)
    if options.json_:
        show.print_json([record.to_json() for record in records])
        return
    show.line(f"{show.count(len(records), 'record')}: {prepared.output / 'records.jsonl'}")
    if records:
        show.line(f"page: {prepared.output / 'report' / 'index.html'}")


def _check(experiment: Any, output: Path) -> None:
    """What can be checked without torch: the base, the library, the place of the results."""
    from mashup.checkpoint import check_base
    from mashup.files import refuse_unwritable, require_folder

    library = [Path(experiment.library)] if experiment.library else []
    gather(
        partial(check_base, experiment.base),
        *(partial(require_folder, folder) for folder in library),
        partial(refuse_unwritable, output),
    )


def _inputs(options: LooOptions) -> tuple[Any, Path]:
    """The experiment, with what the command line says otherwise, and its folder."""
    from mashup.loo.read import read_experiment

    path = Path(options.experiment)
    if path.is_dir():
        return _known(path), path
    experiment = read_experiment(path, options.data)
    output = Path(options.output) if options.output else Path(path.stem)
    if options.model:
        experiment = experiment.model_copy(update={"base": options.model})
    if options.arms:
        experiment = _with_arms(experiment, options.arms)
    return experiment, output


def _known(folder: Path) -> Any:
    from mashup.faults import validated
    from mashup.files import read_json
    from mashup.loo.experiment import Experiment
    from mashup.loo.run import EXPERIMENT

    if not (folder / EXPERIMENT).exists():
        found, fix = f"no {EXPERIMENT}", "give the YAML file, or the folder of its results"
        raise UsageError(Problem("no experiment here", str(folder), found, fix=fix))
    return validated(Experiment, read_json(folder / EXPERIMENT), str(folder / EXPERIMENT))


def _jobs(options: LooOptions) -> str | None:
    """Where the jobs are, as the folder itself says when it is given."""
    from mashup.loo.read import known_jobs

    return options.jobs or known_jobs(Path(options.experiment))


def _with_arms(experiment: Any, names: Sequence[str]) -> Any:
    """Only these arms and variants."""
    from mashup.loo.experiment import ARMS

    known = (*ARMS, *experiment.variants)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(Problem("unknown arm", "--arms", ", ".join(unknown), ", ".join(known)))
    arms = tuple(name for name in dict.fromkeys(names) if name in ARMS)
    variants = {name: one for name, one in experiment.variants.items() if name in names}
    return experiment.model_copy(update={"arms": arms, "variants": variants})


def _print_jobs(prepared: Any, *, as_json: bool) -> None:
    jobs = prepared.plan.jobs.values()
    rows = [
        {
            "job": job.name,
            "key": job.key,
            "done": prepared.store.is_done(job),
            "seconds": prepared.seconds[job.key],
        }
        for job in jobs
    ]
    if as_json:
        show.print_json({"jobs": rows, "bytes": prepared.bytes})
        return
    lines = [(r["job"], "done" if r["done"] else "", duration(r["seconds"])) for r in rows]
    show.table(("job", "", "about"), lines, numbers=("about",))
    status = prepared.status
    jobs, seconds = show.count(status.total, "job"), duration(status.seconds + prepared.pace.load)
    show.line(
        f"{jobs}, {status.done} done, about {seconds} one after the other and "
        f"{show.size(prepared.bytes)} of disk"
    )


def _print_status(prepared: Any, *, as_json: bool) -> None:
    status = prepared.status
    if as_json:
        show.print_json(asdict(status))
        return
    columns = show.JOB_COLUMNS
    show.table(columns, show.job_rows(status), numbers=columns[1:])
    for name, seconds in status.running:
        show.line(f"begun {duration(seconds)} ago: {name}")
