"""Progress on stderr: a bar with an ETA on a terminal, lines elsewhere.

Library functions take a :class:`Progress` and are silent by default; the command line
passes :class:`Bars`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Protocol

from mashup.errors import printable, with_flags


class Advance(Protocol):
    """Called when parts of a total are done."""

    def __call__(self, parts: int = 1) -> None: ...


class Bar:
    """A bar in progress. This one shows nothing."""

    def __call__(self, parts: int = 1) -> None:
        """Advance by ``parts``."""

    def tell(self, news: str) -> None:
        """Show news: at the end of the bar on a terminal, as a line elsewhere."""


class Progress:
    """Shows nothing; the base class of everything that shows progress."""

    @contextlib.contextmanager
    def bar(self, label: str, total: int, done: int = 0) -> Iterator[Bar]:
        """Yield a bar of ``total`` equal parts, of which ``done`` are done; call it to advance."""
        del label, total, done
        yield NO_BAR

    def say(self, line: str) -> None:
        """Show one line."""

    def begin(self, job: str) -> None:
        """A job begins. Bars and lines belong to it until the next job."""

    def done(self, job: str) -> None:
        """A job is done."""


NO_BAR = Bar()
SILENT = Progress()


class Bars(Progress):
    """Bars and lines on stderr. Off a terminal, a line for each news."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._live: Any = None

    @contextlib.contextmanager
    def bar(self, label: str, total: int, done: int = 0) -> Iterator[Bar]:
        if not self._console.is_terminal:
            yield LineBar(self, label, total, done)
        elif self._live is not None:  # a bar within a bar: one more line of the same display
            with shown(self._live, label, total, done) as bar:
                yield bar
        else:
            with self._display() as self._live, shown(self._live, label, total, done) as bar:
                try:
                    yield bar
                finally:
                    self._live = None

    def say(self, line: str) -> None:
        text = printable(with_flags(line))
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _display(self) -> Any:
        from rich import progress

        return progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[news]}", markup=False),
            console=self._console,
            transient=True,
        )


@contextlib.contextmanager
def shown(display: Any, label: str, total: int, done: int = 0) -> Iterator[Bar]:
    """A bar in a rich display; removed at the end."""
    task = display.add_task(printable(label), total=total, completed=done, news="")
    try:
        yield _DrawnBar(display, task)
    finally:
        display.remove_task(task)


class _DrawnBar(Bar):
    def __init__(self, display: Any, task: Any) -> None:
        self._display, self._task = display, task

    def __call__(self, parts: int = 1) -> None:
        self._display.advance(self._task, parts)

    def tell(self, news: str) -> None:
        self._display.update(self._task, news=printable(news))


class LineBar(Bar):
    """A line for each news: label, done of total, the news, rate and time left.

    Args:
        progress: shows the lines.
        label, total, done: as in :meth:`Progress.bar`.
        clock: returns seconds. The rate counts the parts since the bar was made.
    """

    def __init__(
        self, progress: Progress, label: str, total: int, done: int = 0, clock: Any = time.monotonic
    ) -> None:
        self._progress, self._label, self._total = progress, label, total
        self._begun, self._done, self._clock, self._start = done, done, clock, clock()

    def __call__(self, parts: int = 1) -> None:
        self._done += parts

    def tell(self, news: str) -> None:
        fresh, seconds = self._done - self._begun, self._clock() - self._start
        parts = [f"{self._done}/{self._total}", news] if news else [f"{self._done}/{self._total}"]
        if fresh > 0 and seconds > 0:
            left = duration((self._total - self._done) * seconds / fresh)
            parts += [f"{fresh / seconds:.3g}/s", f"about {left} left"]
        self._progress.say(f"{self._label}: {', '.join(parts)}")


def is_tenth(done: int, total: int) -> bool:
    """Whether part number ``done`` completes another tenth of ``total``."""
    return done * 10 // total != (done - 1) * 10 // total


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
