"""``mashup init``: scan, score, select and merge in one command."""

from __future__ import annotations

from pathlib import Path

import typer
from pydantic import Field

from mashup.cli import show
from mashup.cli.common import DataOptions, MergeOptions, ModelOptions, ScoreOptions
from mashup.cli.merge import print_init
from mashup.cli.options import JsonOption, add_command, positional
from mashup.cli.score import load_inputs, make_scores, print_scores, to_json
from mashup.errors import GateError, Problem
from mashup.settings import SelectSettings


class Options(ModelOptions, DataOptions, ScoreOptions, SelectSettings, MergeOptions, JsonOption):
    library: str = positional("folder with checkpoints in it")
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
    from mashup._select import select
    from mashup.progress import Bars

    output = Path(options.output)
    options.note_unused()
    library, task, base = load_inputs(options, output=output)
    from mashup._init import Sample, make_init
    from mashup._merge.manifest import against_best, measured

    scores = make_scores(options, library, task, base)
    selection = select(scores, k=options.k, diversity=options.diversity)
    init = None
    if not selection.is_empty:
        sample = Sample(options.samples, options.split_seed, options.max_length)
        init = make_init(
            selection,
            base,
            task,
            sample,
            output,
            progress=Bars(),
            or_best=not options.always_merge,
            accept_base=options.accept_base,
            **options.merging(),
        )
    manifest = init.manifest if init else None
    behind = against_best(manifest) if manifest else ""
    is_best_alone = bool(manifest and "instead_of" in manifest)
    if behind and (options.json_ or not is_best_alone):  # else the sentence says it
        show.note(behind)
    sentence = behind if is_best_alone else selection.sentence
    if options.json_:
        show.print_json(to_json(scores) | {"init": manifest, "sentence": sentence})
    else:
        print_scores(scores, [str(s.checkpoint.path) for s in selection.chosen if s.checkpoint])
        show.line(sentence)
        if init:
            print_init(init)
            show.line(measured(init.manifest["sample"]))
        else:
            show.line("nothing was written")
    if options.strict and init is None:
        raise GateError(Problem("quality gate", options.library, sentence))
