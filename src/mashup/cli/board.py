"""The live table of an experiment: kinds of jobs with what is left, and bars of the current one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from mashup.errors import printable
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

    @contextlib.contextmanager
    def shown(self, status: Any) -> Iterator[Board]:
        """The table is there within the block."""
        from rich.live import Live

        if not self._console.is_terminal:
            yield self
            return
        with Live(self._drawn(status), console=self._console, refresh_per_second=4) as live:
            self._live = live
            try:
                yield self
            finally:
                self._live = None

    def watch(self, status: Any) -> None:
        """How far the experiment is now."""
        if self._live is not None:
            self._live.update(self._drawn(status))
        elif not self._console.is_terminal:
            left = duration(status.seconds)
            self._console.print(f"{status.done} of {status.total} jobs, about {left} left")

    @contextlib.contextmanager
    def bar(self, label: str, total: int, done: int = 0) -> Iterator[Bar]:
        with shown(self._bars, label, total, done) as bar:
            yield bar

    def say(self, line: str) -> None:
        if self._live is None:
            self._console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    def _drawn(self, status: Any) -> Any:
        from rich.console import Group
        from rich.table import Table

        table = Table(*COLUMNS, box=None, pad_edge=False)
        for row in rows_of(status):
            table.add_row(*row)
        return Group(table, self._bars)


COLUMNS = ("jobs", "done", "running", "left", "about")


def rows_of(status: Any) -> list[tuple[str, ...]]:
    """The table of a status: a row a kind, and one of all."""
    rows = [
        (row.kind, str(row.done), str(row.running), str(row.left), duration(row.seconds))
        for row in status.rows
    ]
    sums = (sum(getattr(row, name) for row in status.rows) for name in ("done", "running", "left"))
    return [*rows, ("all", *map(str, sums), duration(status.seconds))]
