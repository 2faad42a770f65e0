"""``mashup merge``: several checkpoints into one start."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer
from pydantic import Field

from mashup.cli import show
from mashup.cli.common import MergeOptions, say_left_out
from mashup.cli.options import JsonOption, add_command, positional
from mashup.errors import Problem, UsageError, gather
from mashup.faults import names_of
from mashup.settings import MergeSettings, RowSettings

if TYPE_CHECKING:
    from mashup.checkpoint import Opened

_NAMED = 8  # tensors that are named; all of them are in the manifest


class Options(MergeOptions, MergeSettings, RowSettings, JsonOption):
    checkpoints: tuple[str, ...] = positional("checkpoint folders: LoRAs and full checkpoints")
    output: str = Field(description="folder to write")
    model: str | None = Field(
        None, description="base model; needed for full checkpoints and for full output"
    )
    allow_pickle: bool = Field(False, description="read .bin files as well, weights only")
    dataset: str | None = Field(
        None, description="rows to measure on, for --weights loss and greedy_soup"
    )
    samples: int = Field(256, ge=2, description="examples of the dataset to measure on")
    dry_run: bool = Field(False, description="print what would be read and written, and stop")
    export: Literal["mergekit"] | None = Field(
        None, description="write the merge as a file of mergekit to the output, and do not merge"
    )

    @classmethod
    def from_file(cls, values: dict[Any, Any], where: str) -> dict[Any, Any]:
        """Values of a file of ours, or of mergekit's."""
        from mashup._merge.mergekit import is_mergekit, read_mergekit

        if not is_mergekit(values):
            return values
        found = read_mergekit(values, where, names_of(cls))
        for note in found.notes:
            show.note(f"note: {note}")
        base = {"model": found.base} if found.base else {}
        return {"checkpoints": list(found.models), **base, **found.settings}


def register(app: typer.Typer) -> None:
    add_command(app, "merge", Options, run)


def run(options: Options) -> None:
    """Merge checkpoints exactly into a LoRA or a model that any trainer takes."""
    options.note_unused()
    places = _places(options)
    folders = _folders(options, places)
    opened = _check(options, folders)
    if options.dry_run:
        _dry_run(options, opened)
        return
    if options.export:
        _export(options, opened)
        return
    from mashup._merge.merge import merge
    from mashup.progress import Bars

    given = options.values_of(MergeSettings) | _measured(options, folders)
    init = merge(opened, output=options.output, base=options.model, progress=Bars(), **given)
    init = _as_named(init, dict(zip(folders, places, strict=True)))
    if options.json_:
        show.print_json(init.manifest)
    else:
        print_init(init)


def _check(options: Options, folders: list[str]) -> list[Opened]:
    """Check without torch what can be: the output, the base, the checkpoints' headers."""
    from mashup.checkpoint import check_base, open_checkpoint
    from mashup.outputs import refuse_existing

    _, *opened = gather(
        lambda: refuse_existing(Path(options.output)),
        *(partial(open_checkpoint, Path(folder)) for folder in folders),
    )
    if options.model:
        check_base(options.model, (one.checkpoint.base for one in opened))
    return opened


def _places(options: Options) -> list[str]:
    """The folder of each checkpoint; one of the Hub is fetched."""
    from mashup.library.sources import folder_of, kind_of_source

    steps = (
        partial(folder_of, one) if kind_of_source(one) else partial(str, one)
        for one in options.checkpoints
    )
    return list(map(str, gather(*steps)))


def _folders(options: Options, places: list[str]) -> list[str]:
    """What to read for each checkpoint: itself, or a copy in safetensors if that is allowed."""
    if not options.allow_pickle:
        return places
    from mashup._convert import converted

    return [str(converted(Path(folder))) for folder in places]


def _as_named(init: Any, folders: dict[str, str]) -> Any:
    """The manifest with the folders that the user gave, not with copies of them."""
    if all(read == named for read, named in folders.items()):
        return init
    parents = [p | {"path": folders[p["path"]]} for p in init.manifest["parents"]]
    return init.noting(parents=parents)


def _measured(options: Options, folders: list[str]) -> dict[str, Any]:
    """Losses of the checkpoints and a way to measure merges, where they are asked for."""
    if options.weights != "loss" and options.method != "greedy_soup":
        return {}
    if options.model is None or options.dataset is None:
        return {}  # merge itself says what is missing
    show.note(f"loading base {options.model} ...")
    from mashup._init import measuring
    from mashup.task import load_task

    task = load_task(options.dataset, **options.reading)
    say_left_out(task)
    return measuring(folders, options.model, task, options.samples)


def _dry_run(options: Options, opened: list[Opened]) -> None:
    """Check everything and show what the merge would cost."""
    from mashup._merge.merge import cost_of

    cost = cost_of(opened, options.cut_to(MergeSettings), options.model)
    if options.json_:
        show.print_json(cost)
        return
    tensors, files = show.count(cost["tensors"], "tensor"), show.count(cost["files"], "file")
    show.line(f"output: {cost['output_kind']}, {tensors} in {files}")
    for name in ("bytes_read", "bytes_written", "peak_memory"):
        show.line(f"{name.replace('_', ' ')}: {show.size(cost[name])}")
    show.line("nothing was written (--dry-run)")


def _export(options: Options, opened: list[Opened]) -> None:
    """Check the merge and write it as a file of mergekit."""
    from mashup._merge.full import FullPlan
    from mashup._merge.merge import prepare_merge
    from mashup._merge.mergekit import to_mergekit
    from mashup.outputs import write_text

    settings = options.cut_to(MergeSettings)
    prepared = prepare_merge(opened, settings, options.model)
    if not isinstance(prepared.plan, FullPlan):
        fix = "give `output_kind` full and `base`"
        raise UsageError(Problem("mergekit writes models", "`export` mergekit", "a LoRA", fix=fix))
    if prepared.reference and prepared.reference.bases:  # vocabularies differ
        settings = settings.model_copy(update={"tokenizer": str(prepared.reference.vocabulary)})
    parents = prepared.in_order
    lora = f"{options.model}+"
    models = [str(one.path) if one.is_full else f"{lora}{one.path}" for one in parents]
    weights = [parent.weight for parent in parents]
    text = to_mergekit(models, weights, options.model, settings, prepared.plan.dtype)
    write_text(Path(options.output), text)
    show.line(f"written: {options.output}")


def print_init(init: Any) -> None:
    """What was merged and how well the result holds it."""
    from mashup._merge.manifest import quality

    about = init.manifest
    how = quality(about)
    columns = ("parent", "task", "weight", "covered")
    rows = [
        (p["name"], p["task"], f"{p['weight']:.4g}", f"{p['coverage']:.0%}")
        for p in about["parents"]
    ]
    show.table(columns, rows, numbers=("weight", "covered"))
    if about["output_kind"] == "lora":
        rank, modules = about["resolved_rank"], show.count(about["modules"], "module")
        show.line(f"rank {rank} over {modules}, {how}")
        if names := about["left_out_tensors"]:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            show.line(f"left out: {', '.join(names[:_NAMED])}{more}")
    else:
        show.line(how)
    for path, what in about.get("partial", {}).items():
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in what.items() if names)
        show.line(f"merged in part (--allow-partial): {path}: {counts}")
    for note in about.get("notes", []):
        show.line(f"note: {note}")
    show.line(f"written: {init.path}")
