"""``mashup verify``: does a merge, or a report, hold what it says."""

from __future__ import annotations

from typing import Any

import typer
from pydantic import Field

from mashup.cli import show
from mashup.cli.common import DataOptions
from mashup.cli.options import JsonOption, add_command, positional


class Options(DataOptions, JsonOption):
    folder: str = positional("folder of mashup merge, init, compare or loo")
    sources: tuple[str, ...] = Field(
        (), description="folders to look in for sources that have moved, by their content"
    )
    model: str | None = Field(None, description="where the base model is now, if it has moved")
    dataset: str | None = Field(  # type: ignore[assignment]  # optional here
        None, description="data of an init, to score its sample again"
    )
    tolerance: float = Field(
        0.0,
        ge=0,
        description="relative difference of weights that still agrees; 0: the same bytes",
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps; for the sample")


def register(app: typer.Typer) -> None:
    add_command(app, "verify", Options, run)


def run(options: Options) -> int:
    """Make a merge or a report again and compare; exit code 3 unless all agrees."""
    from mashup._verify.verify import verify
    from mashup.progress import Bars

    done = verify(
        options.folder,
        sources=options.sources,
        base=options.model,
        task=options.load_task() if options.dataset else None,
        tolerance=options.tolerance,
        device=options.device,
        progress=Bars(),
    )
    if options.json_:
        show.print_json(
            {"agrees": done.agrees, "checks": [check.to_json() for check in done.checks]}
        )
    else:
        rows: list[tuple[Any, ...]] = [(c.what, c.where, c.state, c.found) for c in done.checks]
        show.table(("check", "of", "result", "found"), rows)
        show.line(done.sentence)
    if done.problems:
        show.problems(done.problems)
    return 0 if done.agrees else 3
