"""``mashup methods``: the merge methods, with formulas and sources."""

from __future__ import annotations

import typer

from mashup.cli import show
from mashup.cli.options import JsonOption, add_command


class Options(JsonOption):
    pass


def register(app: typer.Typer) -> None:
    add_command(app, "methods", Options, run)


def run(options: Options) -> None:
    """List the merge methods with their formulas, settings and papers."""
    from mashup._merge.methods import METHODS

    columns = ("method", "formula", "settings", "source")
    rows = [(m.name, m.formula, " ".join(m.takes), m.paper) for m in METHODS.values()]
    if options.json_:
        show.print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    show.table(columns, rows)
    show.line("δ is a parent's difference from the base, w its weight, λ is --scale.")
