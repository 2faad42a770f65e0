"""``mashup init``: scan, score, select and merge in one command."""

from __future__ import annotations

from pathlib import Path

import typer
from pydantic import Field

from mashup.cli import show
from mashup.cli.common import DataOptions, MergeOptions, ModelOptions, ScoreOptions
from mashup.cli.merge import print_init
from mashup.cli.options import JsonOption, add_command, positional
from mashup.cli.score import load_inputs, print_scores, to_json
from mashup.errors import GateError, Problem
from mashup.settings import ScoreSettings, SelectSettings


class Options(ModelOptions, DataOptions, ScoreOptions, SelectSettings, MergeOptions, JsonOption):
    library: str = positional("folder with checkpoints in it, or hub:ORG, cache:, ...")
    output: str = Field(description="folder to write")
    always_merge: bool = Field(
        False, description="write the merge even if the best checkpoint alone is better"
    )
    strict: bool = Field(
        False, description="stop at a broken checkpoint; exit with code 4 if none helps"
    )


def register(app: typer.Typer) -> None:
    add_command(app, "init", Options, run)


def run(options: Options) -> None:
    """Find the checkpoints that fit a task best and merge them into a start for it."""
    output = Path(options.output)
    options.note_unused()
    library, task, base = load_inputs(options, output=output)
    from mashup._init import init
    from mashup._merge.manifest import against_best, measured
    from mashup.progress import Bars

    done = init(
        library,
        base,
        task,
        output=output,
        score=options.cut_to(ScoreSettings),
        select=options.cut_to(SelectSettings),
        seed=options.split_seed,
        max_length=options.max_length,
        accept_base=options.accept_base,
        strict=options.strict,
        always_merge=options.always_merge,
        progress=Bars(),
        **options.merging(),
    )
    manifest = done.init.manifest if done.init else None
    behind = against_best(manifest) if manifest else ""
    if behind and (options.json_ or behind != done.sentence):
        show.note(behind)
    if options.json_:
        show.print_json(to_json(done.scores) | {"init": manifest, "sentence": done.sentence})
    else:
        print_scores(done.scores, [str(score.path) for score in done.selection.chosen])
        show.line(done.sentence)
        if done.init:
            print_init(done.init)
            show.line(measured(done.init.manifest["sample"]))
        else:
            show.line("nothing was written")
    if options.strict and done.init is None:
        raise GateError(Problem("quality gate", options.library, done.sentence))
