"""Results to stdout, problems and progress to stderr."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from mashup.errors import Problem, grouped


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[str] = ()
) -> None:
    """A table on stdout; plain text when that is not a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        right = column in numbers
        made.add_column(
            column, justify="right" if right else "left", overflow="fold", no_wrap=right
        )
    for row in rows:
        made.add_row(*row)
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160).print(made)


def problems(found: Sequence[Problem]) -> None:
    """All problems in one table on stderr, each with its fix; those that are alike as one."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for number, problem in enumerate(grouped(found)):
        if number:
            made.add_row("", "")
        made.add_row(Text("error", style="bold red"), Text(problem.what, style="bold"))
        details = ("where", "found", "expected", "fix")
        for name in details:
            if text := getattr(problem, name):
                made.add_row(name, Text(_with_flags(text)))
    console = Console(stderr=True, highlight=False, markup=False)
    console.width = max(console.width, 80) if console.is_terminal else 120
    console.print(made)


def _with_flags(text: str) -> str:
    """```accept_base``` as ``--accept-base``."""
    return re.sub(r"`([a-z_]+)`", lambda name: f"--{name[1].replace('_', '-')}", text)


def print_json(value: Any) -> None:
    """``value`` as JSON on stdout."""
    json.dump(value, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def size(count: int) -> str:
    """Bytes for people: ``4.9 MB``."""
    number = float(count)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
