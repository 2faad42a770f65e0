"""``mashup compare``: a warm start against scratch and controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from pydantic import Field

from mashup.cli import show
from mashup.cli.common import BestOptions, DataOptions, MergeOptions, ModelOptions, ScoreOptions
from mashup.cli.options import JsonOption, add_command, positional
from mashup.cli.score import load_inputs
from mashup.settings import USUAL_ARMS, ArmName, ScoreSettings, SelectSettings, TrainSettings


class Options(
    ModelOptions,
    DataOptions,
    ScoreOptions,
    SelectSettings,
    MergeOptions,
    BestOptions,
    JsonOption,
):
    library: str = positional("folder with checkpoints in it, or hub:ORG, cache:, ...")
    output: str = Field(description="folder for runs, records and pages")
    arms: tuple[ArmName, ...] = Field(
        USUAL_ARMS, description="what to compare; scratch is always run"
    )
    seeds: tuple[int, ...] = Field((42,), description="seeds of the training runs")
    learning_rates: tuple[float, ...] = Field(
        (), description="several rates to try; each arm keeps its best by dev loss"
    )
    budgets: tuple[float, ...] = Field(
        (1.0,), description="shares of the training steps to measure as well, e.g. 0.25 0.5 1"
    )
    evaluations: int = Field(8, ge=1, description="evaluations during training, after step 0")


def register(app: typer.Typer) -> None:
    add_command(app, "compare", Options, run)


def run(options: Options) -> None:
    """Train from scratch, from a merge, and controls; write records, table, curves and a page."""
    from mashup.experiment.settings import check_arms, check_merging, check_values
    from mashup.progress import Bars

    check_values(options.seeds, options.budgets, options.learning_rates)
    check_arms(options.arms, options.cut_to(TrainSettings))
    check_merging(options.merging())
    options.note_unused()
    library, task, base = load_inputs(options, output=Path(options.output), ours="comparison.json")
    from mashup.experiment.compare import compare

    done = compare(
        library,
        base,
        task,
        output=options.output,
        score=options.cut_to(ScoreSettings),
        select=options.cut_to(SelectSettings),
        arms=options.arms,
        seeds=options.seeds,
        learning_rates=options.learning_rates,
        budgets=options.budgets,
        settings=options.cut_to(TrainSettings),
        merge_options=options.merging(),
        accept_base=options.accept_base,
        strict=options.strict,
        progress=Bars(),
    )
    print_comparison(done, as_json=options.json_)


def print_comparison(done: Any, *, as_json: bool = False) -> None:
    """The summary of a comparison, or all its records."""
    from mashup._report.write import read_studies
    from mashup.cli.report import print_studies

    if as_json:
        show.print_json([record.to_json() for record in done.records])
    else:
        print_studies(read_studies([done.path]), done.table, done.page)
