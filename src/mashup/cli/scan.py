"""``mashup scan``: what checkpoints are there."""

from __future__ import annotations

from typing import Any

import typer
from pydantic import Field

from mashup.cli import show
from mashup.cli.options import JsonOption, add_command, positional

_COLUMNS = ("name", "base", "rank", "targets", "task", "metric", "size", "state")
_SHOWN = 40


class ScanOptions(JsonOption):
    library: str = positional("folder with checkpoints")
    all_checkpoints: bool = Field(False, description="every checkpoint-N, not one a run")
    base: tuple[str, ...] = Field(
        (), description="ID:MODEL names the base of checkpoints that do not say; ID may have *"
    )
    all_rows: bool = Field(False, description=f"print more than {_SHOWN} rows")


def register(app: typer.Typer) -> None:
    add_command(app, "scan", ScanOptions, run)


def run(options: ScanOptions) -> None:
    """List the checkpoints below a folder, from headers and JSON only."""
    from mashup.library import name_bases, scan
    from mashup.library.records import to_record

    library = scan(options.library, all_checkpoints=options.all_checkpoints)
    if options.base:
        name_bases(library.root, (*library.checkpoints, *library.siblings), options.base)
        library = scan(options.library, all_checkpoints=options.all_checkpoints)
    if options.json_:
        show.print_json(
            {
                "root": str(library.root),
                "checkpoints": [to_record(c) for c in library.checkpoints],
                "siblings": [str(c.path) for c in library.siblings],
            }
        )
        return
    ordered = sorted(library.checkpoints, key=lambda c: c.problem is None)
    shown = ordered if options.all_rows else ordered[:_SHOWN]
    show.table(_COLUMNS, map(_row, shown), numbers=("rank", "size"))
    show.line(_summary(library, len(ordered) - len(shown)))


def _row(c: Any) -> tuple[str, ...]:
    metric = f"{c.metric[0]} {c.metric[1]:.3f}" if c.metric else ""
    state = c.state
    if c.problem:
        state = "; ".join(t for t in (c.problem.what, c.problem.found, c.problem.fix) if t)
    elif not c.base:
        state = f"{state}; name it with --base {c.name}:MODEL"
    rank = str(c.rank) if c.rank else ""
    targets = " ".join(c.targets)
    return c.name, c.base, rank, targets, c.task, metric, show.size(c.bytes), state


def _summary(library: Any, hidden: int) -> str:
    count = len(library.checkpoints)
    bad = len(library.problems)
    parts = [f"{count} checkpoint{'s' * (count != 1)}, {len(library.usable)} usable"]
    if bad:
        parts.append(f"{bad} with a problem")
    if library.siblings:
        parts.append(f"{len(library.siblings)} more of the same runs (--all-checkpoints)")
    if hidden:
        parts.append(f"{hidden} rows not shown (--all-rows)")
    return "; ".join(parts)
