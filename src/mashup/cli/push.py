"""``mashup push``: a checkpoint on the Hub, with a card that says what it was made from."""

from __future__ import annotations

import typer
from pydantic import Field

from mashup.cli import show
from mashup.cli.options import JsonOption, add_command, positional


class Options(JsonOption):
    folder: str = positional("an init, a merge, a run, or another checkpoint")
    repository: str = positional("owner/name on the Hub; it is made if need be")
    comparison: str | None = Field(
        None, description="output of mashup compare whose table and pictures the card shows"
    )
    private: bool = Field(False, description="make a new repository private")
    dry_run: str | None = Field(
        None, description="write what would be published to this folder, and stop"
    )


def register(app: typer.Typer) -> None:
    add_command(app, "push", Options, run)


def run(options: Options) -> None:
    """Publish a checkpoint on the Hub, with its sources and their licenses."""
    from mashup._push import push

    done = push(
        options.folder,
        options.repository,
        comparison=options.comparison,
        private=options.private,
        dry_run=options.dry_run,
    )
    for warning in done.warnings:
        show.note(f"note: {warning}")
    if options.json_:
        values = {"url": done.url or None, "files": dict(done.files), "warnings": done.warnings}
        show.print_json(values | {"path": str(done.path) if done.path else None})
        return
    show.table(
        ["file", "size"], [[n, show.size(s)] for n, s in done.files.items()], numbers=["size"]
    )
    show.line(f"published: {done.url}" if done.url else f"would be published: {done.path}")
