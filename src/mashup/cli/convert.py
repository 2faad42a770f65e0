"""``mashup convert``: pickled weights to safetensors, next to them."""

from __future__ import annotations

import typer

from mashup.cli import show
from mashup.cli.options import JsonOption, add_command, positional


class Options(JsonOption):
    checkpoints: tuple[str, ...] = positional("checkpoint folders with .bin files")


def register(app: typer.Typer) -> None:
    add_command(app, "convert", Options, run)


def run(options: Options) -> None:
    """Write safetensors next to pickled weights, without running code of the pickle."""
    from mashup._convert import convert

    written = {folder: convert(folder) for folder in options.checkpoints}
    if options.json_:
        show.print_json(
            {folder: [str(path) for path in paths] for folder, paths in written.items()}
        )
        return
    for folder, paths in written.items():
        for path in paths:
            show.line(f"written: {path} ({show.size(path.stat().st_size)})")
        if not paths:
            show.line(f"nothing to do: {folder} has safetensors already")
