"""``mashup merge``: several checkpoints into one start."""

from __future__ import annotations

from typing import Any, Literal

import typer
from pydantic import Field

from mashup.cli import show
from mashup.cli.common import MergeOptions
from mashup.cli.options import JsonOption, add_command, positional


class Options(MergeOptions, JsonOption):
    checkpoints: tuple[str, ...] = positional("checkpoint folders")
    output: str = Field(description="folder to make")
    weights: tuple[float, ...] | None = Field(
        None, description="one a checkpoint (default: 1/k each)"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="of the written tensors"
    )
    seed: int = Field(42, description="of the rotation of the factors")
    accept_base: bool = Field(False, description="merge though base names differ or are blank")


def register(app: typer.Typer) -> None:
    add_command(app, "merge", Options, run)


def run(options: Options) -> None:
    """Merge LoRA checkpoints exactly into one adapter that any trainer takes."""
    from mashup.merge import merge

    init = merge(
        options.checkpoints,
        output=options.output,
        method=options.method,
        weights=options.weights,
        rank=options.rank,
        factors=options.factors,
        dtype=options.dtype,
        seed=options.seed,
        accept_base=options.accept_base,
    )
    if options.json_:
        show.print_json(init.manifest)
    else:
        print_init(init)


def print_init(init: Any) -> None:
    """What was merged and how well the result holds it."""
    from mashup.merge.manifest import quality

    about = init.manifest
    columns = ("parent", "task", "weight", "modules covered")
    rows = [
        (p["name"], p["task"], f"{p['weight']:.4g}", f"{p['coverage']:.0%}")
        for p in about["parents"]
    ]
    show.table(columns, rows, numbers=("weight", "modules covered"))
    print(f"rank {about['resolved_rank']} over {about['modules']} modules, {quality(about)}")
    print(f"written: {init.path}")
