"""``mashup loo``: a leave-one-out experiment from a YAML file."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer
from pydantic import Field

from mashup.cli import show
from mashup.cli.options import JsonOption, add_command, positional
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
    targets: tuple[Name, ...] = Field(
        (), description="targets to run, or patterns (crises/*), instead of the file's"
    )
    dry_run: bool = Field(False, description="print jobs, seconds and disk space, and stop")
    status: bool = Field(False, description="print how far the experiment is, and stop")
    report: bool = Field(False, description="write records and report of what is done, and stop")


def register(app: typer.Typer) -> None:
    add_command(app, "loo", LooOptions, run, many=True)


def run(options: LooOptions) -> None:
    """Leave each task out once and start it from the others; continue what was stopped."""
    from mashup.experiment.run import jobs_of, open_experiment, prepare, publish, run_jobs

    experiment, output = open_experiment(
        options.experiment, options.output, model=options.model, data=options.data,
        arms=options.arms, targets=options.targets,
    )  # fmt: skip
    prepared = prepare(experiment, output, jobs=jobs_of(options.experiment, options.jobs))
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
        if not options.report:
            run_jobs(prepared)
        return
    if options.report:
        records = publish(prepared)
    else:
        board = show.Board()
        with board.shown(prepared.status):
            records = run_jobs(prepared, progress=board, watch=board.watch)
    if options.json_:
        show.print_json([record.to_json() for record in records])
        return
    show.line(f"{show.count(len(records), 'record')}: {prepared.output / 'records.jsonl'}")
    if records:
        show.line(f"page: {prepared.output / 'report' / 'index.html'}")


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
