"""What a verb prints: results on stdout; problems, notes and progress on stderr.

Control codes in names and texts of files never reach the terminal
(:func:`mashup.errors.printable`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mashup.errors import Problem, grouped, printable, with_flags
from mashup.files import size as size
from mashup.progress import Bar, Progress, duration
from mashup.progress import shown as shown_bar

_ANY_WIDTH = 10_000  # columns where the output is a file or another program


def is_closed(stream: Any) -> bool:
    """Whether the reader of a stream has gone."""
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
    """Print a table on stdout.

    Rows that are too wide for a terminal are folded, or cut to one line with ``cut``. In files
    and pipes every row is one whole line.

    Args:
        columns: the headings.
        rows: one text per column.
        numbers: headings of the columns that are aligned right.
        cut: shorten the widest texts instead of folding rows.
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
    """All problems in one table on stderr; problems that differ only in their place are grouped."""
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


JOB_COLUMNS = ("jobs", "done", "running", "left", "about")


def job_rows(status: Any) -> list[tuple[str, ...]]:
    """Rows of a status table: one per kind of job, then the totals."""
    rows = [
        (row.kind, str(row.done), str(row.running), str(row.left), duration(row.seconds))
        for row in status.rows
    ]
    sums = (sum(getattr(row, name) for row in status.rows) for name in ("done", "running", "left"))
    return [*rows, ("all", *map(str, sums), duration(status.seconds))]


class Board(Progress):
    """Progress of an experiment: a live table on a terminal, one line per job elsewhere."""

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console

        self._console = Console(stderr=True)
        self._bars = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[news]}", markup=False),
            console=self._console,
        )
        self._live: Any = None
        self._status: Any = None
        self._job = ""
        self._since = 0.0

    @contextlib.contextmanager
    def shown(self, status: Any) -> Iterator[Board]:
        """Show the table while the block runs."""
        from rich.live import Live

        self._status = status
        if not self._console.is_terminal:
            yield self
            return
        with Live(get_renderable=self._drawn, console=self._console, refresh_per_second=2) as live:
            self._live = live
            try:
                yield self
            finally:
                self._live = None

    def watch(self, status: Any) -> None:
        """Update the table."""
        self._status = status
        if self._live is None:
            left = duration(status.seconds)
            self.say(f"{status.done} of {status.total} jobs are done, about {left} left")

    def begin(self, job: str) -> None:
        self._job = f"job {self._status.done + 1} of {self._status.total}: {job}"
        self._since = time.monotonic()
        self.say(self._job)

    def done(self, job: str) -> None:
        if not self._job:  # jobs run elsewhere, and only their ends are known here
            self.say(f"done: {job}")

    @contextlib.contextmanager
    def bar(self, label: str, total: int, done: int = 0) -> Iterator[Bar]:
        with shown_bar(self._bars, label, total, done) as bar:
            yield bar

    def say(self, line: str) -> None:
        if self._live is None:
            self._console.print(
                printable(with_flags(line)), highlight=False, markup=False, soft_wrap=True
            )

    def _drawn(self) -> Any:
        """The table, the running jobs with their durations, and the bars of the current one."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(*JOB_COLUMNS, box=None, pad_edge=False)
        for row in job_rows(self._status):
            table.add_row(*row)
        running = [f"{self._job}, {duration(time.monotonic() - self._since)}"] if self._job else [
            f"{name}, {duration(seconds)}" for name, seconds in self._status.running
        ]  # fmt: skip
        return Group(table, *map(Text, running), self._bars)
