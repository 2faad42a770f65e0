"""``mashup scan``: what checkpoints are there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Annotated, Any

import typer
from pydantic import Field

from mashup.cli import show
from mashup.cli.common import scan_library
from mashup.cli.options import JsonOption, add_command, positional
from mashup.errors import Problem, grouped
from mashup.settings import Name

_COLUMNS = ("state", "name", "base", "rank", "targets", "task", "metric", "size")
_SHOWN = 40
_BASES = 10  # that the summary names
#: What ``all-linear`` adapts in models that name their layers like Llama.
_LINEAR = frozenset(("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))
_PAIR = Field(
    pattern=":",
    json_schema_extra={
        "expected": "ID:MODEL; to list the checkpoints of one base, use --only-base"
    },
)


class ScanOptions(JsonOption):
    library: str = positional("folder with checkpoints in it, or hub:ORG, cache:, ...")
    all_checkpoints: bool = Field(
        False, description="list every checkpoint-N, not one for each run"
    )
    only_base: tuple[Name, ...] = Field(
        (), description="list checkpoints of these bases only; * stands for any text"
    )
    only_task: tuple[Name, ...] = Field(
        (), description="list checkpoints of these tasks only; * stands for any text"
    )
    only_rank: tuple[int, ...] = Field((), description="list LoRAs of these ranks only")
    base: tuple[Annotated[str, _PAIR], ...] = Field(
        (),
        description="ID:MODEL, the base of checkpoints that do not name one; * stands for any text",
    )
    all_rows: bool = Field(False, description=f"print more than {_SHOWN} rows")


def register(app: typer.Typer) -> None:
    add_command(app, "scan", ScanOptions, run)


def run(options: ScanOptions) -> None:
    """List the checkpoints below a folder, from headers and JSON only."""
    from mashup.library import name_bases
    from mashup.library.scan import to_record

    library = scan_library(options)
    if options.base:
        name_bases(library.root, (*library.checkpoints, *library.siblings), options.base)
        library = scan_library(options)
    found = [c for c in library.checkpoints if _is_wanted(c, options)]
    siblings = [c for c in library.siblings if _is_wanted(c, options)]
    for note in library.notes:
        show.note(note)
    if options.json_:
        show.print_json(
            {
                "root": str(library.root),
                **({"source": library.source} if library.source else {}),
                "checkpoints": [to_record(c) for c in found],
                "siblings": [str(c.path) for c in siblings],
            }
        )
        return
    ordered = sorted(found, key=lambda c: c.problem is None)
    shown = ordered if options.all_rows else ordered[:_SHOWN]
    show.table(*_filled(list(map(_row, shown))), numbers=("rank", "size"), cut=True)
    for problem in grouped(filter(None, map(_to_mend, found))):
        details = (problem.where, problem.found, problem.fix and f"fix: {problem.fix}")
        show.line(f"{problem.what}: {'; '.join(filter(None, details))}")
    for line in _bases(found):
        show.line(line)
    show.line(_summary(found, siblings, len(ordered) - len(shown), len(library.checkpoints)))


def _is_wanted(c: Any, options: ScanOptions) -> bool:
    """Whether a checkpoint passes all filters."""
    return (
        _matches(c.base, options.only_base)
        and _matches(c.task, options.only_task)
        and (not options.only_rank or c.rank in options.only_rank)
    )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name, or its last part, is one of the patterns; none stands for any name."""
    ends = (name, name.rstrip("/").rsplit("/", 1)[-1])
    return not patterns or any(fnmatchcase(end, one) for end in ends for one in patterns)


def _filled(rows: Sequence[tuple[str, ...]]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows without the columns that say nothing."""
    kept = [n for n in range(len(_COLUMNS)) if any(row[n] for row in rows)]
    return [_COLUMNS[n] for n in kept], [[row[n] for n in kept] for row in rows]


def _row(c: Any) -> tuple[str, ...]:
    metric = f"{c.metric[0]} {c.metric[1]:.3f}" if c.metric else ""
    rank = str(c.rank) if c.rank else ""
    about = (c.name, short_base(c.base), rank, _targets(c.targets), c.task, metric)
    return c.state, *about, show.size(c.bytes)


def short_base(base: str) -> str:
    """A Hub id as it is, of a path the last part."""
    return f"…/{base.rstrip('/').rsplit('/', 1)[-1]}" if base.count("/") > 1 else base


def _targets(names: Sequence[str]) -> str:
    """Module names in a few characters."""
    if frozenset(names) == _LINEAR:
        return "all-linear"
    text = " ".join(names)
    return text if len(text) <= len("q_proj v_proj") else show.count(len(names), "kind")


def _to_mend(c: Any) -> Problem | None:
    """What keeps a checkpoint from being used, by its name in the table."""
    if c.problem:
        return replace(c.problem, where=c.name)
    if not c.base:
        fix = "name it with --base ID:MODEL, where ID is the name here or a pattern as '*'"
        return Problem("base model not named", c.name, fix=fix)
    return None


def _bases(found: Iterable[Any]) -> list[str]:
    """A line for each base: how many checkpoints, of what kind and rank."""
    groups: dict[str, list[Any]] = {}
    for c in found:
        groups.setdefault(c.base, []).append(c)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    lines = [f"base {base or '(not named)'}: {_kinds(group)}" for base, group in ordered[:_BASES]]
    rest = len(ordered) - len(lines)
    return [*lines, f"and {show.count(rest, 'more base')}"] if rest else lines


def _kinds(group: Sequence[Any]) -> str:
    whole = sum(c.kind == "full" for c in group)
    ranks = sorted({c.rank for c in group if c.rank})
    named = f"{'rank' if len(ranks) == 1 else 'ranks'} {', '.join(map(str, ranks))}"
    loras = f"{show.count(len(group) - whole, 'LoRA')}{f' of {named}' if ranks else ''}"
    usable = sum(c.usable for c in group)
    parts = [
        loras if len(group) > whole else "",
        show.count(whole, "full checkpoint") if whole else "",
    ]
    return f"{', '.join(filter(None, parts))}; {usable} usable"


def _summary(found: Sequence[Any], siblings: Sequence[Any], hidden: int, total: int) -> str:
    bad = sum(not c.usable for c in found)
    of = f" of {total:,}" if len(found) < total else ""
    parts = [f"{show.count(len(found), 'checkpoint')}{of}, {len(found) - bad:,} usable"]
    if bad:
        parts.append(f"{bad:,} with a problem")
    if siblings:
        parts.append(f"{len(siblings):,} more of the same runs (--all-checkpoints)")
    if hidden:
        parts.append(f"{show.count(hidden, 'row')} not shown (--all-rows)")
    return "; ".join(parts)
