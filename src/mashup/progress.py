"""Progress on stderr: a bar with an ETA on a terminal, nothing elsewhere.

Library functions take a :class:`Progress` and are silent by default; the command line
passes :class:`Bars`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

from mashup.errors import printable


class Advance(Protocol):
    """Tells a bar that some parts of its total are done."""

    def __call__(self, parts: int = 1) -> None: ...


class Progress:
    """Shows nothing. The base of anything that shows progress."""

    @contextlib.contextmanager
    def bar(self, label: str, total: int) -> Iterator[Advance]:
        """A bar of ``total`` equal parts; call what it yields after one or more."""
        del label, total
        yield lambda parts=1: None

    def say(self, line: str) -> None:
        """One line of what is going on."""


SILENT = Progress()


class Bars(Progress):
    """Bars and lines on stderr; bars only when stderr is a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._live: Any = None

    @contextlib.contextmanager
    def bar(self, label: str, total: int) -> Iterator[Advance]:
        if self._live is not None:  # a bar within a bar: one more line of the same display
            yield from self._task(self._live, label, total)
            return
        with self._display() as display:
            self._live = display
            try:
                yield from self._task(display, label, total)
            finally:
                self._live = None

    def say(self, line: str) -> None:
        self._console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    def _display(self) -> Any:
        from rich import progress

        return progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )

    def _task(self, display: Any, label: str, total: int) -> Iterator[Advance]:
        task = display.add_task(printable(label), total=total)
        try:
            yield lambda parts=1: display.advance(task, parts)
        finally:
            display.remove_task(task)
