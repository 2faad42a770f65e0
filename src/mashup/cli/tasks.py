"""``mashup tasks``: the benchmarks whose rows are known."""

from __future__ import annotations

import typer

from mashup.cli import show
from mashup.cli.options import JsonOption, add_command


class Options(JsonOption):
    pass


def register(app: typer.Typer) -> None:
    add_command(app, "tasks", Options, run)


def run(options: Options) -> None:
    """List the benchmarks whose rows are understood as they are on the Hub."""
    from dataclasses import asdict

    from mashup.task import known_records

    if options.json_:
        show.print_json([asdict(record) for record in known_records()])
        return
    rows = [
        (r.name, f"{r.hub}:{r.config}" if r.config else r.hub, ", ".join(r.columns), r.source)
        for r in known_records()
    ]
    show.table(("name", "--dataset on the Hub", "columns", "source"), rows)
    show.line("Any other data: rows with messages, or with prompt and completion.")
