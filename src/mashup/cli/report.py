"""``mashup report``: pages, tables and pictures again, from records alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from pydantic import Field

from mashup.cli import show
from mashup.cli.options import JsonOption, add_command, positional

if TYPE_CHECKING:
    from mashup._report.study import Study

#: Columns of the table of arms that a terminal has room for, and their heads there.
_COLUMNS = {
    "Test accuracy": "accuracy",
    "Over scratch, points": "over scratch",
    "mashup over it, points": "mashup over it",
    "Total seconds": "seconds",
    "Steps to parity": "parity",
}


class Options(JsonOption):
    folders: tuple[str, ...] = positional("folders of mashup loo and mashup compare")
    output: str | None = Field(
        None,
        description="folder to write into; FOLDER/report for mashup loo, the folder itself for "
        "mashup compare, report for several",
    )
    report_to: str = Field("none", description="tracker that gets them as runs: mlflow or wandb")


def register(app: typer.Typer) -> None:
    add_command(app, "report", Options, run)


def run(options: Options) -> None:
    """Write the report of finished experiments and comparisons again from their records."""
    from mashup._report.write import report

    done = report(options.folders, options.output, report_to=options.report_to)
    if options.json_:
        verdicts = {name: asdict(one) for name, one in done.verdicts.items()}
        show.print_json({"page": str(done.page), "verdicts": verdicts})
    else:
        print_studies(done.studies, done.markdown, done.page)


def print_studies(studies: Sequence[Study], markdown: Path, page: Path) -> None:
    """A screen: the verdict of each experiment, the arms of a single one, and the pages."""
    from mashup._report.numbers import capital
    from mashup._report.tables import arms_table
    from mashup._report.verdict import make_verdict

    for study in studies:
        verdict = make_verdict(study)
        name = f"{study.name}: " if len(studies) > 1 else ""
        show.line(" ".join((f"{name}{capital(verdict.sentence)}", *verdict.notes)))
    if len(studies) == 1:
        table = arms_table(studies[0])
        places = [place for place, name in enumerate(table.columns) if name in _COLUMNS]
        heads = [_COLUMNS[table.columns[place]] for place in places]
        starts = ["starts from"] if table.second else []
        rows = [
            [row[0].text, *(row[0].detail for _ in starts)]
            + [f"{row[place].text} {row[place].detail}".strip() for place in places]
            for row in table.rows
        ]
        show.table(["arm", *starts, *heads], rows, numbers=("accuracy", "seconds"))
        show.line(
            "accuracy on test; differences in points with 95 % intervals; parity: steps to "
            "scratch's final dev loss, the arm's / scratch's; scoring and merging are charged"
        )
    show.line(f"report: {markdown}")
    show.line(f"page: {page}")
