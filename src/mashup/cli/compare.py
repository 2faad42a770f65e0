"""``mashup compare``: a warm start against scratch and controls."""

from __future__ import annotations

from typing import Any

import typer
from pydantic import Field, field_validator

from mashup.cli import show
from mashup.cli.common import (
    DataOptions,
    MergeOptions,
    ModelOptions,
    ScoreOptions,
    named_arms,
)
from mashup.cli.options import JsonOption, add_command, positional
from mashup.cli.score import load_inputs
from mashup.cli.train import settings_of
from mashup.settings import ARMS, SelectSettings, TrainSettings


class Options(
    ModelOptions,
    DataOptions,
    ScoreOptions,
    SelectSettings,
    MergeOptions,
    TrainSettings,
    JsonOption,
):
    library: str = positional("folder with checkpoints")
    output: str = Field(description="folder to make")
    arms: str = Field(",".join(ARMS), description="which arms, with commas")
    seeds: tuple[int, ...] = Field((42,), description="seeds of the training runs")
    learning_rates: tuple[float, ...] = Field((), description="grid, best by dev loss for each arm")
    budgets: tuple[float, ...] = Field((1.0,), description="ladder, e.g. 0.25 0.5 0.75 1")

    @field_validator("arms", mode="before")
    @classmethod
    def _joined(cls, value: object) -> object:
        """A YAML list of names as one text with commas."""
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else value

    evaluations: int = Field(8, ge=1, description="points of the curve after step 0")


def register(app: typer.Typer) -> None:
    add_command(app, "compare", Options, run)


def run(options: Options) -> None:
    """Train from scratch, from a merge, and controls; write records, table, curves and a page."""
    from mashup.compare import compare
    from mashup.progress import Bars

    arms = named_arms(options.arms, ARMS)
    library, task, base = load_inputs(options)
    done = compare(
        library,
        base,
        task,
        output=options.output,
        k=options.k,
        diversity=options.diversity,
        criterion=options.criterion,
        strategy=options.strategy,
        samples=options.samples,
        arms=arms,
        seeds=options.seeds,
        learning_rates=options.learning_rates,
        budgets=options.budgets,
        settings=settings_of(options),
        merge_options=options.merging(),
        accept_base=options.accept_base,
        strict=options.strict,
        progress=Bars(),
    )
    print_comparison(done, as_json=options.json_)


def print_comparison(done: Any, *, as_json: bool = False) -> None:
    """The table and where the page is, or all records."""
    if as_json:
        show.print_json([record.to_json() for record in done.records])
        return
    print(done.table.read_text())
    print(f"page: {done.page}")
