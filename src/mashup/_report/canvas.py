"""Drawings as lists of lines, marks, boxes and texts, and their two painters: SVG and PNG.

Lengths are points, 72 an inch, from the upper left corner. Colours are names of
:data:`mashup._report.style.PALETTE`. What has a title shows it under the mouse on a page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from mashup._report.style import LIGHT, PALETTE, SHAPES

Place = tuple[float, float]
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", Arial, sans-serif'
_DPI = 160
_GAP, _MARGIN = 14.0, 6.0
_WIDE = 0.59  # mean width of a letter, in sizes of the font
_LONGEST = 24  # letters of a name


@dataclass(frozen=True)
class Line:
    """A line through points. ``dash``: strokes and gaps in widths of the line, as SVG has them."""

    points: tuple[Place, ...]
    colour: str
    width: float = 1.0
    dash: str = ""
    opacity: float = 1.0
    title: str = ""


@dataclass(frozen=True)
class Mark:
    """A mark at a point; ``hollow`` ones are filled with the colour of the paper."""

    at: Place
    shape: str
    colour: str
    size: float = 3.0
    title: str = ""
    hollow: bool = False


@dataclass(frozen=True)
class Box:
    """A filled rectangle: corner, width, height; ``edge`` is the colour of its outline, if any."""

    at: Place
    width: float
    height: float
    colour: str
    opacity: float = 1.0
    edge: str = ""
    title: str = ""


@dataclass(frozen=True)
class Text:
    """One line of text. ``anchor``: start, middle or end. ``turn``: degrees, clockwise."""

    at: Place
    text: str
    colour: str = "muted"
    size: float = 10.0
    anchor: str = "start"
    bold: bool = False
    turn: float = 0.0


Item = Line | Mark | Box | Text


@dataclass(frozen=True)
class Drawing:
    """A picture of a fixed size, and the same in words."""

    width: float
    height: float
    items: tuple[Item, ...]
    alt: str = ""


def width_of(text: str, size: float = 10.0) -> float:
    """About how wide a text is. No font is asked, so the layout is the same everywhere."""
    return len(text) * size * _WIDE


def short(name: str) -> str:
    """A long name without its middle."""
    half = _LONGEST // 2
    return name if len(name) <= _LONGEST else f"{name[: half - 1]}…{name[-half:]}"


def moved(items: Iterable[Item], right: float, down: float) -> list[Item]:
    """The items elsewhere."""

    def place(at: Place) -> Place:
        return at[0] + right, at[1] + down

    return [
        replace(one, points=tuple(map(place, one.points)))
        if isinstance(one, Line)
        else replace(one, at=place(one.at))
        for one in items
    ]


def side_by_side(drawings: Sequence[Drawing], across: int) -> Drawing:
    """Drawings of one size in rows of ``across``."""
    width, height = drawings[0].width + _GAP, drawings[0].height + _GAP
    items: list[Item] = []
    for place, one in enumerate(drawings):
        row, column = divmod(place, across)
        items += moved(one.items, column * width, row * height)
    columns, rows = min(across, len(drawings)), -(-len(drawings) // across)
    return Drawing(columns * width - _GAP, rows * height - _GAP, tuple(items))


def below(drawings: Sequence[Drawing]) -> Drawing:
    """Drawings under each other, with a margin around."""
    height, items = _MARGIN, []
    for one in drawings:
        items += moved(one.items, _MARGIN, height)
        height += one.height
    width = max(one.width for one in drawings) + 2 * _MARGIN
    return Drawing(width, height + _MARGIN, tuple(items))


def to_svg(drawing: Drawing) -> str:
    """An ``svg`` element for a page, which defines its colours as CSS variables."""
    size = f"{_number(drawing.width)} {_number(drawing.height)}"
    body = "".join(map(_element, drawing.items))
    name = quoteattr(drawing.alt)
    return f'<svg viewBox="0 0 {size}" role="img" aria-label={name} font-size="10">{body}</svg>'


def to_svg_file(drawing: Drawing, *, dark: bool = False) -> bytes:
    """A file of its own, in the colours of light pages.

    Args:
        drawing: what it shows.
        dark: whether it takes the colours of dark pages where the reader prefers them.
    """
    width, height = _number(drawing.width), _number(drawing.height)
    text = to_svg(drawing).partition(">")
    head = (
        f'<?xml version="1.0" encoding="utf-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" '
        f'width="{width}pt" height="{height}pt" font-family={quoteattr(FONT)} {text[0][5:]}>'
        f'<rect width="100%" height="100%" fill="var(--paper)"/>'
    )
    if dark:
        preferred = f"@media (prefers-color-scheme: dark) {{{_variables(1)}}}"
        style = f"<style>{_variables(0)} {preferred}</style>"
        return (head.replace("<rect", style + "<rect", 1) + text[2]).encode()
    return re.sub(r"var\(--([\w-]+)\)", lambda found: LIGHT[found[1]], head + text[2]).encode()


def _variables(theme: int) -> str:
    """The palette as CSS variables: of light pages (0) or of dark ones (1)."""
    return f"svg {{{' '.join(f'--{name}: {values[theme]};' for name, values in PALETTE.items())}}}"


def _element(one: Item) -> str:
    if isinstance(one, Line):
        points = " ".join(f"{_number(x)},{_number(y)}" for x, y in one.points)
        name = f'polyline points="{points}" fill="none" stroke="var(--{one.colour})"'
        name += f' stroke-width="{_number(one.width)}"'
        if one.dash:
            strokes = (_number(float(part) * one.width) for part in one.dash.split())
            name += f' stroke-dasharray="{" ".join(strokes)}"'
        return _closed(name + _faint(one.opacity), one.title)
    if isinstance(one, Mark):
        fill = "paper" if one.hollow else one.colour
        edge = f' stroke="var(--{one.colour})" stroke-width="1.5"' if one.hollow else ""
        return _closed(f'{_outline(one)} fill="var(--{fill})"{edge}', one.title)
    x, y = map(_number, one.at)
    if isinstance(one, Box):
        name = f'rect x="{x}" y="{y}" width="{_number(one.width)}" height="{_number(one.height)}"'
        edge = f' stroke="var(--{one.edge})" stroke-width="1.5"' if one.edge else ""
        name += f' fill="var(--{one.colour})"' + _faint(one.opacity, "fill-opacity")
        return _closed(name + edge, one.title)
    name = f'text x="{x}" y="{y}" fill="var(--{one.colour})"'
    name += "" if one.size == 10 else f' font-size="{_number(one.size)}"'
    name += "" if one.anchor == "start" else f' text-anchor="{one.anchor}"'
    name += ' font-weight="bold"' if one.bold else ""
    name += f' transform="rotate({_number(one.turn)} {x} {y})"' if one.turn else ""
    return f"<{name}>{escape(_clean(one.text))}</text>"


def _closed(name: str, title: str) -> str:
    kind = name.partition(" ")[0]
    return f"<{name}><title>{escape(_clean(title))}</title></{kind}>" if title else f"<{name}/>"


def _outline(one: Mark) -> str:
    if not SHAPES[one.shape]:
        x, y = map(_number, one.at)
        return f'circle cx="{x}" cy="{y}" r="{_number(one.size)}"'
    corners = [f"{_number(x)} {_number(y)}" for x, y in _corners(one)]
    return f'path d="M{"L".join(corners)}z"'


def _corners(one: Mark) -> list[Place]:
    return [(one.at[0] + one.size * x, one.at[1] + one.size * y) for x, y in SHAPES[one.shape]]


def _faint(opacity: float, kind: str = "opacity") -> str:
    return "" if opacity == 1 else f' {kind}="{opacity:.2f}"'


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _clean(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(c for c in text if c.isprintable() or c == " ")


def to_png(drawing: Drawing) -> bytes:
    """The same as a bitmap of 160 dots an inch, in the colours of light pages."""
    from matplotlib.figure import Figure

    figure = Figure((drawing.width / 72, drawing.height / 72), facecolor=LIGHT["paper"])
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, drawing.width), ylim=(drawing.height, 0))
    axes.set_axis_off()
    for order, one in enumerate(drawing.items):
        _paint(axes, one, order)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
    return stream.getvalue()


def _paint(axes: Any, one: Item, order: int) -> None:
    from matplotlib.patches import Circle, Polygon, Rectangle

    colour = LIGHT[one.colour]
    if isinstance(one, Line):
        dash = tuple(map(float, one.dash.split()))
        style = {"linestyle": (0, dash)} if dash else {}
        x, y = zip(*one.points, strict=True)
        axes.plot(
            x, y, color=colour, linewidth=one.width, alpha=one.opacity, zorder=order,
            solid_capstyle="butt", **style,
        )  # fmt: skip
    elif isinstance(one, Text):
        axes.text(
            *one.at, drawable(one.text), color=colour, fontsize=one.size, parse_math=False,
            ha={"start": "left", "middle": "center", "end": "right"}[one.anchor], va="baseline",
            weight="bold" if one.bold else "normal", rotation=-one.turn, rotation_mode="anchor",
            zorder=order,
        )  # fmt: skip
    elif isinstance(one, Mark):
        corners = _corners(one)
        patch = Polygon(corners) if corners else Circle(one.at, one.size)
        fill = LIGHT["paper"] if one.hollow else colour
        patch.set(facecolor=fill, edgecolor=colour, linewidth=1.5 * one.hollow, zorder=order)
        axes.add_patch(patch)
    else:
        box = Rectangle(one.at, one.width, one.height, color=colour, alpha=one.opacity, lw=0)
        axes.add_patch(box).set_zorder(order)
        if one.edge:
            edge = Rectangle(one.at, one.width, one.height, fill=False, zorder=order)
            axes.add_patch(edge).set(edgecolor=LIGHT[one.edge], linewidth=1.5)


def drawable(text: str) -> str:
    """``text`` with a box for each character that the bitmap's font does not have."""
    return "".join(c if ord(c) in _characters() else "□" for c in text)


@cache
def _characters() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())
