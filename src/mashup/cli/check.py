"""``mashup check``: can these checkpoints be merged, and if not, why."""

from __future__ import annotations

from typing import Any

import typer
from pydantic import Field

from mashup.cli import show
from mashup.cli.options import JsonOption, add_command, positional
from mashup.cli.scan import short_base
from mashup.hub import snapshot_of

_COLUMNS = ("checkpoint", "kind", "base", "size", "dtype", "tensors", "verdict")


class Options(JsonOption):
    checkpoints: tuple[str, ...] = positional(
        "checkpoint folders, folders of such, or hub:ORG, cache:, ..."
    )
    model: str | None = Field(None, description="base model to compare with, by its headers")
    accept_base: bool = Field(False, description="accept base names that differ or are blank")
    read: bool = Field(False, description="read all numbers and look for NaN and infinity")


def register(app: typer.Typer) -> None:
    add_command(app, "check", Options, run)


def run(options: Options) -> int:
    """Check checkpoints from their headers, without merging; exit code 3 if any is wrong."""
    from mashup._check import check

    reports = check(
        options.checkpoints,
        base=options.model,
        accept_base=options.accept_base,
        read=options.read,
    )
    problems = [problem for report in reports for problem in report.problems]
    if options.json_:
        show.print_json([_record(report) for report in reports])
    else:
        show.table(_COLUMNS, map(_row, reports), numbers=("size", "tensors"))
        for report in reports:
            for note in () if report.is_foreign else report.notes:
                show.line(f"note: {_place(report)}: {note}")
        wrong = sum(bool(report.problems) for report in reports)
        how = "numbers and headers" if options.read else "headers"
        show.line(f"{len(reports)} checked by {how}, {wrong} with problems")
        if foreign := sum(report.is_foreign for report in reports):
            show.line(f"{foreign} of them name another base and were not compared with this one")
    if problems:
        show.problems(problems)
    return 3 if problems else 0


def _place(report: Any) -> str:
    """The folder, or what a copy of the Hub is called there."""
    return str(snapshot_of(report.checkpoint.path) or report.checkpoint.path)


def _row(report: Any) -> tuple[str, ...]:
    checkpoint = report.checkpoint
    verdict = "of another base" if report.is_foreign else "ok"
    verdict = report.problems[0].what if report.problems else verdict
    if len(report.problems) > 1:
        verdict += f" (and {len(report.problems) - 1} more)"
    return (
        _place(report),
        checkpoint.kind,
        short_base(checkpoint.base),
        show.size(report.bytes),
        " ".join(report.dtypes),
        str(checkpoint.modules),
        verdict,
    )


def _record(report: Any) -> dict[str, Any]:
    from mashup.library.scan import to_record

    return to_record(report.checkpoint) | {
        "problems": [problem.to_json() for problem in report.problems],
        "notes": list(report.notes),
        "dtypes": list(report.dtypes),
        "is_foreign": report.is_foreign,
    }
