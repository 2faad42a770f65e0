"""``mashup report``: pages, tables and pictures again, from records alone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer
from pydantic import Field

from mashup.cli import show
from mashup.cli.compare import print_summary
from mashup.cli.options import JsonOption, add_command, positional
from mashup.errors import Problem, UsageError


class Options(JsonOption):
    folders: tuple[str, ...] = positional("folders of mashup loo, or one of mashup compare")
    output: str | None = Field(
        None, description="folder to write into; FOLDER/report, or report for several"
    )


def register(app: typer.Typer) -> None:
    add_command(app, "report", Options, run)


def run(options: Options) -> None:
    """Write the report of finished experiments, or of a comparison, again from their records."""
    from mashup.results.records import consistent

    with consistent(Path(", ".join(options.folders))):
        _run(options)


def _run(options: Options) -> None:
    from mashup._report.experiment import write_experiment_report
    from mashup._report.experiment.verdicts import lead

    folders = [Path(folder) for folder in options.folders]
    compared = [folder for folder in folders if (folder / "comparison.json").exists()]
    if compared:
        _rebuild(folders, options)
        return
    output = Path(options.output or (folders[0] / "report" if len(folders) == 1 else "report"))
    studies = write_experiment_report(folders, output)
    if options.json_:
        told = {study.name: asdict(lead(study)) for study in studies}
        show.print_json({"page": str(output / "index.html"), "verdicts": told})
        return
    for study in studies:
        show.line(f"{study.name}: {lead(study).numbers or lead(study).answer}")
    show.line(f"page: {output / 'index.html'}")


def _rebuild(folders: list[Path], options: Options) -> None:
    """A comparison's pages lie in its own folder."""
    from mashup._report import rebuild

    if len(folders) > 1 or options.output:
        what = "a comparison's report is written beside its records"
        fix = "give the folder of one comparison, without --output"
        raise UsageError(Problem(what, ", ".join(map(str, folders)), fix=fix))
    rebuild(folders[0])
    if options.json_:
        show.print_json({"page": str(folders[0] / "index.html")})
    else:
        print_summary(folders[0])
