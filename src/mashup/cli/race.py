"""``mashup race``: several starts and learning rates under one budget."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

import typer
from pydantic import Field

from mashup.cli import show
from mashup.cli.common import (
    BestOptions,
    DataOptions,
    MergeOptions,
    ModelOptions,
    ScoreOptions,
    scan_library,
    start_of,
)
from mashup.cli.options import JsonOption, add_command
from mashup.settings import RaceSettings, ScoreSettings, SelectSettings, TrainSettings


class Options(
    ModelOptions,
    DataOptions,
    ScoreOptions,
    SelectSettings,
    MergeOptions,
    BestOptions,
    RaceSettings,
    JsonOption,
):
    library: str | None = Field(
        None,
        description="folder with checkpoints in it, or hub:ORG, ..., to make starts from",
        json_schema_extra={"positional": True},
    )
    output: str = Field(description="folder of the trained run")
    starts: tuple[str, ...] = Field(
        (), description="more checkpoints to start from: folders or hub:OWNER/NAME"
    )
    test_points: Literal["all", "end", "none"] = Field(
        "end", description="points at which the test rows are read; dev rows are at all"
    )
    dry_run: bool = Field(False, description="print the lanes and their steps, and stop")


def register(app: typer.Typer) -> None:
    add_command(app, "race", Options, run)


def run(options: Options) -> None:
    """Train from several starts at several rates under one budget, and keep the best run."""
    options.note_unused()
    if options.dry_run:
        _print_plan(options)
        return
    library, task, starts = _inputs(options)
    base = options.load_base()
    from mashup._race.race import race
    from mashup.progress import Bars

    done = race(
        base,
        task,
        output=options.output,
        library=library,
        starts=starts,
        learning_rates=options.learning_rates,
        budget=options.budget,
        scales=options.scales,
        score=options.cut_to(ScoreSettings),
        select=options.cut_to(SelectSettings),
        merge_options=options.merging(),
        settings=options.cut_to(TrainSettings),
        split_seed=options.split_seed,
        accept_base=options.accept_base,
        strict=options.strict,
        progress=Bars(),
    )
    if options.json_:
        show.print_json(done.record)
    else:
        _print(done)


def _inputs(options: Options) -> tuple[Any, Any, list[Path]]:
    """Library, if one is given, task and folders of the starts.

    Mistakes are found before torch is imported.
    """
    from mashup.checkpoint import check_base
    from mashup.errors import gather
    from mashup.outputs import refuse_existing

    def sources() -> Any:
        return None if options.library is None else scan_library(options)

    start = partial(start_of, full=options.cut_to(TrainSettings).is_full)
    _, _, starts, library, task = gather(
        lambda: refuse_existing(Path(options.output), "race.json"),
        lambda: check_base(options.model),
        lambda: gather(*(partial(start, one) for one in options.starts)),
        sources,
        options.load_task,
    )
    return library, task, starts


def _print_plan(options: Options) -> None:
    library, task, starts = _inputs(options)
    from mashup._race.race import planned

    plan = planned(
        task,
        options.cut_to(TrainSettings),
        options.cut_to(RaceSettings),
        library,
        starts,
        options.k,
    )
    if options.json_:
        lanes = [lane.to_json() for lane in plan.lanes]
        show.print_json({"lanes": lanes, "rungs": plan.rungs, "most_steps": plan.most})
        return
    rates: dict[str, list[str]] = {}
    for lane in plan.lanes:
        rates.setdefault(lane.start, []).append(f"{lane.rate:g}")
    show.table(("start", "learning rates"), [(name, " ".join(one)) for name, one in rates.items()])
    at = ", ".join(map(str, plan.rungs))
    show.line(f"{len(plan.lanes)} lanes, compared at steps {at}; {plan.most} steps at most")
    show.line("starts that the library turns out not to give are left out")


def _print(done: Any) -> None:
    """Every lane with what it came to, then the sentence."""
    record, rows, seen = done.record, [], set()
    for rung in reversed(record["rungs"]):
        for one in rung["lanes"]:
            if one["lane"] in seen:
                continue
            seen.add(one["lane"])
            loss = "–" if one["dev_loss"] is None else f"{one['dev_loss']:.4f}"
            seconds = f"{record['seconds'].get('lane ' + one['lane'], 0.0):.1f}"
            end = one["given_up"] or "won"
            rows.append((one["lane"], str(rung["step"]), loss, seconds, end))
    columns = ("lane", "step", "dev loss", "seconds", "")
    show.table(columns, rows, numbers=columns[1:4])
    kept = done.run.kept
    test = "" if kept.test_accuracy is None else f", test accuracy {kept.test_accuracy:.1%}"
    show.line(done.sentence)
    show.line(f"kept: step {kept.step}, dev loss {kept.dev_loss:.4f}{test}")
    show.line(f"{record['total_seconds']:.1f} s in all; written: {done.path}")
