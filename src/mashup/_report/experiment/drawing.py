"""A picture that is drawn when it is asked for, and then kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from matplotlib.figure import Figure

from mashup._report.figures import laid_out, render
from mashup._report.style import DARK, LIGHT, Theme


@dataclass(frozen=True)
class Drawing:
    """A picture that is drawn in any theme, each only once.

    Attributes:
        key: name of its files.
        alt: the same in words.
    """

    key: str
    title: str
    alt: str
    draw: Callable[[Theme], Figure]

    @cached_property
    def _light(self) -> Figure:
        return laid_out(self.draw(LIGHT))

    @cached_property
    def light(self) -> bytes:
        """SVG for light pages and for files."""
        return render(self._light, "svg")

    @cached_property
    def dark(self) -> bytes:
        """SVG for dark pages."""
        return render(self.draw(DARK), "svg")

    @cached_property
    def png(self) -> bytes:
        return render(self._light, "png")
