"""``mashup score``: how well each checkpoint fits a task."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import typer

from mashup.cli import show
from mashup.cli.common import DataOptions, ModelOptions, ScoreOptions, scan_library
from mashup.cli.options import JsonOption, add_command, positional
from mashup.errors import gather, grouped
from mashup.settings import ScoreSettings, SelectSettings


class Options(ModelOptions, DataOptions, ScoreOptions, SelectSettings, JsonOption):
    library: str = positional("folder with checkpoints in it, or hub:ORG, cache:, ...")


def register(app: typer.Typer) -> None:
    add_command(app, "score", Options, run)


def run(options: Options) -> None:
    """Rank checkpoints by what they know of a sample of a task's training rows."""
    library, task, base = load_inputs(options)
    from mashup._score.racing import finalists_for
    from mashup._score.score import score
    from mashup._select import select
    from mashup.progress import Bars

    scores = score(
        library,
        base,
        task,
        options.cut_to(ScoreSettings),
        seed=options.split_seed,
        finalists=finalists_for(options.k),
        max_length=options.max_length,
        accept_base=options.accept_base,
        strict=options.strict,
        progress=Bars(),
    )
    selection = select(scores, options.cut_to(SelectSettings))
    if options.json_:
        show.print_json(to_json(scores) | {"sentence": selection.sentence})
        return
    print_scores(scores, [str(one.path) for one in selection.chosen])
    show.line(selection.sentence)


def load_inputs(
    options: Any, *, output: Path | None = None, ours: str = ""
) -> tuple[Any, Any, Any]:
    """Library, task and base, the cheap ones first: mistakes are found before torch is imported.

    Args:
        options: of a command.
        output: the folder that it will make.
        ours: name of the file that marks an output which it goes on with.
    """
    from mashup.outputs import refuse_existing

    free = [partial(refuse_existing, output, ours)] if output else []
    *_, library, task = gather(
        *free,
        lambda: _library(options),
        options.load_task,
    )
    count = len(library.usable)
    if options.k > count:
        usable = show.count(count, "usable checkpoint")
        show.note(f"note: --k is {options.k}, and the library has {usable}")
    if options.samples > len(task.train):
        rows = len(task.train)
        show.note(f"note: --samples is {options.samples:,}, and there are {rows:,} training rows")
    return library, task, options.load_base()


def _library(options: Any) -> Any:
    """The checkpoints, some of which fit the base by what they say of themselves."""
    from mashup.checkpoint import check_base
    from mashup.library import fitting

    library = scan_library(options)
    check_base(options.model, (checkpoint.base for checkpoint in library.checkpoints))
    fitting(
        library.checkpoints,
        options.model,
        accept_base=options.accept_base,
        strict=options.strict,
    )
    return library


def print_scores(scores: Any, chosen: Collection[str]) -> None:
    """The ranking as a table, with what was left out below it."""
    made = scores.rows()
    knows = scores.base.knowledge is not None
    uneven = len({row["examples"] for row in made}) > 1  # some were given up earlier
    columns = (
        *("", "checkpoint"),
        *(["examples"] if uneven else []),
        *("loss", "accuracy"),
        *(["form", "knowledge"] if knows else []),
        "vs base",
    )
    rows = []
    for row in made:
        fit = [str(row["examples"])] if uneven else []
        fit += [f"{row['loss']:.4f}", f"{row['accuracy']:.1%}"]
        if knows:
            bits = _with_error(row["knowledge"], row["knowledge_error"], ".2f")
            fit += [f"{row['form']:.2f}", bits]
        mark = "*" if row["path"] in chosen else ""
        rows.append((mark, row["name"], *fit, _against_base(row, scores.criterion)))
    show.table(columns, rows, numbers=columns[2:])
    show.line(
        f"{show.count(scores.examples, 'example')} of the training rows, {scores.seconds:.1f} s"
    )
    show.line(_criterion(scores))
    show.line(_cost(scores))
    if chosen or not scores.ranking:  # the first of those that do not help is of no interest
        show.line(_certainty(scores))
    for checkpoint in scores.unchanged:
        show.line(f"left out, changes nothing (B = 0): {checkpoint.name}")
    for problem in grouped(scores.left_out):
        show.line(f"left out, {problem.what}: {problem.where} ({problem.found})")


def _against_base(row: dict[str, Any], criterion: str) -> str:
    """The difference to the base with its standard error; "" for the base itself."""
    if row["name"] == "base":
        return ""
    if criterion == "knowledge":  # rows hold it so that lower is better
        return _with_error(-row["difference"], row["standard_error"], "+.2f")
    return _with_error(row["difference"], row["standard_error"], "+.4f")


def _with_error(value: float, error: float | None, form: str) -> str:
    """``0.44 ± 0.11``; zero has no sign of its own."""
    shown = format(value, "z" + form) if form[0] != "+" else format(value, "+z" + form[1:])
    return shown if error is None else f"{shown} ± {format(error, form.lstrip('+'))}"


def _criterion(scores: Any) -> str:
    """What the ranking is by, and what that cannot see."""
    if scores.criterion == "knowledge":
        return (
            "ranked by knowledge: bits above the label prior, within the set of answers, "
            "calibrated; vs base: knowledge gained, more is better"
        )
    if scores.free_text:
        return (
            f"ranked by {scores.criterion}, in which the form of an answer and the knowledge are "
            f"one number: no finite set of answers ({scores.free_text}); {_sign(scores)}"
        )
    return f"ranked by {scores.criterion}; {_sign(scores)}"


def _sign(scores: Any) -> str:
    what = "loss" if scores.criterion == "loss" else "share of wrong answers"
    return f"vs base: difference of the {what}, less is better"


def _cost(scores: Any) -> str:
    """What the choice cost, in scored examples; which strategy it was is said when it begins."""
    share = scores.cost.forwards / scores.cost.exhaustive
    return f"cost: {scores.cost.forwards:,.0f} forwards, {share:.0%} of an exhaustive choice"


def _certainty(scores: Any) -> str:
    """How sure the first place is."""
    if not scores.ranking:
        return "nothing was scored"
    rivals = len(scores.rivals)
    others = (
        "no other is" if not rivals else "1 other is" if rivals == 1 else f"{rivals} others are"
    )
    first = f"{scores.ranking[0].name} is first in {scores.confidence:.0%} of bootstrap draws"
    return f"{first}; {others} within two standard errors of it"


def to_json(scores: Any) -> dict[str, Any]:
    return {
        "criterion": scores.criterion,
        "free_text": scores.free_text or None,
        "base": scores.base_name,
        "base_digest": scores.base_digest,
        "sample_digest": scores.sample_digest,
        "examples": scores.examples,
        "prompts": scores.prompts,
        "left_out_long": scores.long,
        "ranking": scores.rows(),
        "unchanged": [str(checkpoint.path) for checkpoint in scores.unchanged],
        "left_out": [problem.to_json() for problem in scores.left_out],
        "leaks": list(scores.leaks),
        "expected": {str(one.path): value for one, value in scores.expected.items()},
        "strategy": scores.strategy,
        "reason": scores.reason,
        "forwards": scores.cost.forwards,
        "exhaustive_forwards": scores.cost.exhaustive,
        "cost_seconds": scores.cost.seconds,
        "confidence": scores.confidence if scores.finalists else None,
        "rivals": [str(score.path) for score in scores.rivals],
        "seconds": scores.seconds,
    }
