"""Results to stdout, problems to stderr: all that a verb prints goes through here.

Names and texts come from files that anyone may have written, so control codes never reach the
terminal (:func:`mashup.errors.printable`).
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from mashup.errors import Problem, grouped, printable, with_flags
from mashup.files import size as size

_ANY_WIDTH = 10_000  # columns of what is no terminal: a file or another program


def is_closed(stream: Any) -> bool:
    """Whether nobody reads any more what is written to a stream."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
    except (OSError, ValueError):  # no file behind it
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def line(text: str) -> None:
    """One or more lines of text on stdout."""
    print(printable(with_flags(text)))


def note(text: str) -> None:
    """One or more lines of text on stderr: what is going on."""
    print(printable(with_flags(text)), file=sys.stderr)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Sequence[str] = (),
    cut: bool = False,
) -> None:
    """A table on stdout, plain where that is no terminal.

    Args:
        columns: their heads.
        rows: one text a column.
        numbers: heads of the columns that are set to the right.
        cut: whether a row is one line on a terminal that is too narrow for it: the widest texts
            are cut. Else they are folded. Elsewhere rows are never cut nor folded.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", collapse_padding=True)
    for column in columns:
        right = column in numbers
        justify: Any = "right" if right else "left"
        made.add_column(printable(column), justify=justify, overflow="fold", no_wrap=right)
    for row in rows:
        texts = [printable(text).replace("\n", "\\n") for text in row]
        how: Any = {"no_wrap": True, "overflow": "ellipsis"} if cut else {"overflow": "fold"}
        made.add_row(*(Text(text, **how) for text in texts))
    fits = sys.stdout.isatty() or "COLUMNS" in os.environ
    Console(highlight=False, markup=False, width=None if fits else _ANY_WIDTH).print(made)


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
                made.add_row(name, Text(text if name == "found" else with_flags(text)))
    console = Console(stderr=True, highlight=False, markup=False)
    if console.is_terminal:
        console.width = max(console.width, 80)
        console.print(made)
        return
    console.width = _ANY_WIDTH
    with console.capture() as caught:
        console.print(made)
    note("\n".join(row.rstrip() for row in caught.get().splitlines()))


def print_json(value: Any) -> None:
    """``value`` as JSON on stdout."""
    json.dump(value, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def count(number: int, noun: str) -> str:
    """``1 checkpoint``, ``2 checkpoints``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
