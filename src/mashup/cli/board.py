"""The live table of an experiment: kinds of jobs with what is left, and bars of the current one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from mashup.errors import printable, with_flags
from mashup.progress import Bar, Progress, duration, shown


class Board(Progress):
    """On stderr: a table that stays in place on a terminal, a line a job elsewhere."""

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
        """The table is there within the block."""
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
        """How far the experiment is now."""
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
        with shown(self._bars, label, total, done) as bar:
            yield bar

    def say(self, line: str) -> None:
        if self._live is None:
            self._console.print(
                printable(with_flags(line)), highlight=False, markup=False, soft_wrap=True
            )

    def _drawn(self) -> Any:
        """The table, the job that runs and for how long, and its bars."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(*COLUMNS, box=None, pad_edge=False)
        for row in rows_of(self._status):
            table.add_row(*row)
        running = [f"{self._job}, {duration(time.monotonic() - self._since)}"] if self._job else [
            f"{name}, {duration(seconds)}" for name, seconds in self._status.running
        ]  # fmt: skip
        return Group(table, *map(Text, running), self._bars)


COLUMNS = ("jobs", "done", "running", "left", "about")


def rows_of(status: Any) -> list[tuple[str, ...]]:
    """The table of a status: a row a kind, and one of all."""
    rows = [
        (row.kind, str(row.done), str(row.running), str(row.left), duration(row.seconds))
        for row in status.rows
    ]
    sums = (sum(getattr(row, name) for row in status.rows) for name in ("done", "running", "left"))
    return [*rows, ("all", *map(str, sums), duration(status.seconds))]
