"""``mashup demo``: the whole flow on a real model and real text from PyPI."""

from __future__ import annotations

import typer
from pydantic import Field

from mashup.cli import show
from mashup.cli.options import JsonOption, add_command


class DemoOptions(JsonOption):
    output: str = Field("demo", description="folder to write")
    quick: bool = Field(False, description="smaller, at most three minutes on two cores")
    base_only: bool = Field(False, description="fetch the base model, print its folder, and stop")
    model: str | None = Field(None, description="another base model: a folder or a Hub id")


def register(app: typer.Typer) -> None:
    add_command(app, "demo", DemoOptions, run)


def run(options: DemoOptions) -> None:
    """Build a library of checkpoints, choose from it for a new task, train, and compare."""
    from mashup.cli.compare import print_comparison
    from mashup.demo.base import demo_base
    from mashup.demo.run import run_demo
    from mashup.progress import Bars

    if options.base_only:
        show.line(str(demo_base(progress=Bars())))
        return
    done = run_demo(options.output, quick=options.quick, model=options.model, progress=Bars())
    print_comparison(done, as_json=options.json_)
