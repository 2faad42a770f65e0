"""Four kinds of picture, from plain values: lines, intervals, stacked bars, a matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mashup._report import numbers
from mashup._report.canvas import Box, Drawing, Item, Line, Mark, Text, short, width_of

_TOP, _BOTTOM, _ROW = 26.0, 34.0, 19.0
_LOGARITHMIC = 4.0  # largest loss by smallest from which a logarithmic scale is better


@dataclass(frozen=True)
class Look:
    """How an arm is drawn: names of a colour and a mark, and the dash of its line."""

    name: str
    colour: str
    shape: str
    dash: str = ""
    line: bool = True


@dataclass(frozen=True)
class Series:
    """One line of a diagram.

    Attributes:
        points: (x, y), from left to right. One point is a mark alone.
        titles: of the points; empty for none.
        thin: one of several runs whose mean is drawn thick; ``title`` is of the whole line.
        before: y of a dotted line from x = 0 to the first point, if there is one.
        ranges: lower and upper end of the interval of each point; empty for none.
    """

    look: Look
    points: tuple[tuple[float, float], ...]
    titles: tuple[str, ...] = ()
    thin: bool = False
    title: str = ""
    before: float | None = None
    ranges: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Level:
    """A horizontal line for reference."""

    y: float
    dash: str
    text: str = ""


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its interval, none where the ends are no numbers.

    Attributes:
        outer: ends of a wider interval, drawn thin.
    """

    look: Look
    value: float
    low: float
    high: float
    title: str = ""
    hollow: bool = False
    outer: tuple[float, float] | None = None


@dataclass(frozen=True)
class Grid:
    """A matrix; ``framed`` are the (row, column) pairs with an outline."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Mapping[tuple[str, str], float]
    framed: frozenset[tuple[str, str]] = field(default_factory=frozenset)


def lines(
    title: str,
    x_label: str,
    series: Sequence[Series],
    *,
    levels: Sequence[Level] = (),
    loss: bool = False,
    x_values: Sequence[float] = (),
    width: float = 320.0,
    height: float = 216.0,
    alt: str = "",
) -> Drawing:
    """A diagram of y over x.

    Args:
        title, x_label: words at the axes.
        series: the lines; later ones are in front.
        levels: lines for reference.
        loss: y may be logarithmic, where a bad start would flatten the rest.
        x_values: the only values of x, drawn on a logarithmic scale; for learning rates.
        width, height: in points.
        alt: the diagram in words.
    """
    points = [point for one in series for point in one.points]
    ys = [y for _, y in points] + [one.y for one in levels]
    ys += [end for one in series for ends in one.ranges for end in ends]
    is_log = loss and min(ys) > 0 and max(ys) / min(ys) >= _LOGARITHMIC
    y_scale, y_ticks = _scale(ys, height - _BOTTOM, _TOP, is_log)
    left = 8 + max(width_of(text) for _, text in y_ticks)
    xs = [x for x, _ in points] + [0.0] * (not x_values)
    x_scale, x_ticks = _scale(xs, left + 8, width - 14, bool(x_values), padded=False)
    if x_values:
        x_ticks = [(value, f"{value:g}") for value in x_values]
    items: list[Item] = [Text((0, 12), title + ", log scale" * is_log, "ink", 11, bold=True)]
    for value, text in y_ticks:
        y = y_scale(value)
        items += [Line(((left, y), (width - 2, y)), "line", 0.8)]
        items += [Text((left - 5, y + 3.5), text, anchor="end")]
    bottom = height - _BOTTOM
    items += [Line(((left, bottom), (width - 2, bottom)), "muted", 0.8)]
    for value, text in x_ticks:
        items += [Text((x_scale(value), bottom + 14), text, anchor="middle")]
    items += [Text(((left + width) / 2, height - 4), x_label, anchor="middle")]
    for level in levels:
        y = y_scale(level.y)
        items += [Line(((left, y), (width - 2, y)), "muted", 1, level.dash)]
        if level.text:
            items += [Text((width - 2, y - 3), level.text, size=8.5, anchor="end")]
    for one in series:
        items += _drawn(one, x_scale, y_scale)
    return Drawing(width, height, tuple(items), alt)


Scale = Callable[[float], float]


def _drawn(one: Series, x: Scale, y: Scale) -> list[Item]:
    places = tuple((x(a), y(b)) for a, b in one.points)
    colour = one.look.colour
    if one.thin:
        return [Line(places, colour, 0.9, opacity=0.45, title=one.title)]
    items: list[Item] = []
    if one.before is not None and one.points[0][0] > 0:
        start = (x(0), y(one.before))
        items += [Line((start, places[0]), colour, 1.4, "1 1.6")]
    if len(places) > 1:
        items += [Line(places, colour, 1.8, one.look.dash)]
    for (at, _), (low, high) in zip(places, one.ranges, strict=False):
        items += [Line(((at, y(low)), (at, y(high))), colour, 1.2, opacity=0.7)]
    titles = one.titles or ("",) * len(places)
    size = 3.0 if one.look.line else 4.5
    items += [
        Mark(place, one.look.shape, colour, size, title)
        for place, title in zip(places, titles, strict=True)
    ]  # fmt: skip
    return items


def _scale(
    values: Sequence[float], start: float, end: float, is_log: bool, *, padded: bool = True
) -> tuple[Scale, list[tuple[float, str]]]:
    """From values to places between ``start`` and ``end``, and the ticks with their texts."""
    low, high = min(values), max(values)
    turn: Callable[[float], float] = math.log10 if is_log else float
    a, b = turn(low), turn(high)
    room = 0.06 * (b - a) if padded else 0.0
    if not b > a:
        room = abs(a) * 0.1 or 1.0
    a, b = a - room, b + room

    def place(value: float) -> float:
        return start + (turn(value) - a) / (b - a) * (end - start)

    ticks = _log_ticks(a, b) if is_log else _ticks(a, b)
    return place, [(tick, f"{tick:g}".replace("-", "−")) for tick in ticks]


def _ticks(low: float, high: float, most: int = 7) -> list[float]:
    """At most so many round numbers between two ends."""
    unit = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(unit * n for n in (1, 2, 2.5, 5, 10, 20) if (high - low) / (unit * n) <= most - 1)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two logarithms; powers alone over many decades."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    powers = decades[:: 1 + len(decades) // 8]
    ticks = [n * 10.0**power for power in powers for n in steps]
    found = [tick for tick in ticks if low <= math.log10(tick) <= high]
    return found if len(found) > 1 else _ticks(10**low, 10**high)


def intervals(
    rows: Sequence[tuple[str, Sequence[Interval]]],
    x_label: str,
    *,
    rule_above: int | None = None,
    bold: frozenset[str] = frozenset(),
    width: float = 440.0,
    alt: str = "",
) -> Drawing:
    """Values with intervals against the zero line, a row a name; also called a forest plot.

    Args:
        rows: names and what is drawn in each, from top to bottom.
        x_label: below the axis.
        rule_above: number of the row that has a line above it: a mean below its parts.
        bold: names that stand out.
        width: in points.
        alt: the picture in words.
    """
    most = max((len(found) for _, found in rows), default=1)
    tall = max(_ROW, 9.5 * most)
    left = 10 + max((width_of(short(name)) for name, _ in rows), default=0)
    bottom = 4 + tall * len(rows)
    ends = [
        end
        for _, found in rows
        for one in found
        for end in (one.value, one.low, one.high, *(one.outer or ()))
    ]
    known = [end for end in ends if math.isfinite(end)]
    x, ticks = _scale([0.0, *known], left + 8, width - 10, False)
    items: list[Item] = []
    for value, text in ticks:
        items += [Line(((x(value), 2), (x(value), bottom)), "line", 0.8)]
        items += [Text((x(value), bottom + 14), text, anchor="middle")]
    items += [Line(((x(0), 0), (x(0), bottom)), "ink", 1.2)]
    for place, (name, found) in enumerate(rows):
        top = 4 + tall * place
        if place == rule_above or (most > 1 and place):
            colour = "muted" if place == rule_above else "line"
            items += [Line(((0, top), (width, top)), colour, 0.8)]
        colour = "ink" if not bold or name in bold else "muted"
        words = Text((left, top + tall / 2 + 3.5), short(name), colour, 10, "end", name in bold)
        items += [words]
        for n, one in enumerate(found):
            y = top + tall * (n + 0.5) / len(found)
            if one.outer:
                outer = ((x(one.outer[0]), y), (x(one.outer[1]), y))
                items += [Line(outer, one.look.colour, 0.8, title=one.title)]
            if math.isfinite(one.low + one.high):
                places = ((x(one.low), y), (x(one.high), y))
                items += [Line(places, one.look.colour, 1.6, title=one.title)]
            items += [
                Mark((x(one.value), y), one.look.shape, one.look.colour, 3.6, one.title, one.hollow)
            ]
    items += [Text(((left + width) / 2, bottom + 29), x_label, anchor="middle")]
    return Drawing(width, bottom + _BOTTOM, tuple(items), alt)


def bars(
    rows: Sequence[tuple[str, Sequence[tuple[str, str, float]]]],
    x_label: str,
    *,
    width: float = 440.0,
    alt: str = "",
) -> Drawing:
    """Stacked horizontal bars, with the total at the end of each.

    Args:
        rows: names and the parts of their bars: (colour, word, value).
        x_label: below the axis.
        width: in points.
        alt: the picture in words.
    """
    left = 10 + max(width_of(short(name)) for name, _ in rows)
    bottom = 4 + _ROW * len(rows)
    totals = [sum(value for *_, value in parts) for _, parts in rows]
    x, ticks = _scale([0.0, max(totals)], left, width - 44, False, padded=False)
    items: list[Item] = []
    for value, text in ticks:
        items += [Line(((x(value), 2), (x(value), bottom)), "line", 0.8)]
        items += [Text((x(value), bottom + 14), text, anchor="middle")]
    for place, ((name, parts), total) in enumerate(zip(rows, totals, strict=True)):
        y, done = 4 + _ROW * place, 0.0
        items += [Text((left - 5, y + _ROW / 2 + 3.5), short(name), "ink", anchor="end")]
        for colour, word, value in parts:
            if value:
                title = f"{name}, {word}: {numbers.seconds(value)} s"
                size = x(done + value) - x(done)
                items += [Box((x(done), y + 3), size, _ROW - 6, colour, title=title)]
            done += value
        words = numbers.seconds(total)
        items += [Text((x(done) + 4, y + _ROW / 2 + 3.5), words, "ink", 9)]
    items += [Text(((left + width) / 2, bottom + 29), x_label, anchor="middle")]
    return Drawing(width, bottom + _BOTTOM, tuple(items), alt)


def matrix(
    title: str, grid: Grid, show: Callable[[float], str], row_label: str, alt: str = ""
) -> Drawing:
    """A heat map: numbers in coloured fields; blue is above zero, orange below.

    Args:
        title: of the picture.
        grid: the values.
        show: the text of a value.
        row_label: what the rows are.
        alt: the picture in words.
    """
    wide, tall = 50.0, 22.0
    left = 12 + max(width_of(short(name)) for name in grid.rows)
    slant = 14 + 0.7 * max(width_of(short(name)) for name in grid.columns)
    bottom = 42 + tall * len(grid.rows)
    items: list[Item] = [Text((0, 12), title, "ink", 11, bold=True)]
    items += [Text((0, 32), f"{row_label} \\ target", size=9)]
    largest = max((abs(value) for value in grid.values.values()), default=0.0) or 1.0
    for row, name in enumerate(grid.rows):
        y = 42 + tall * row
        items += [Text((left - 5, y + tall / 2 + 3.5), short(name), "ink", anchor="end")]
        for column, target in enumerate(grid.columns):
            value = grid.values.get((name, target))
            if value is None:
                continue
            at, text = (left + wide * column, y), show(value)
            colour = "mashup" if value > 0 else "best-single"
            edge = "ink" if (name, target) in grid.framed else "paper"
            words = f"{name} on {target}: {text}" + ", chosen" * (edge == "ink")
            share = 0.6 * abs(value) / largest
            items += [Box(at, wide - 2, tall - 2, colour, share, edge, words)]
            middle = (at[0] + wide / 2 - 1, y + tall / 2 + 2.5)
            items += [Text(middle, text, "ink", 9, "middle")]
    for column, target in enumerate(grid.columns):
        at = (left + wide * (column + 0.5), bottom + 10)
        items += [Text(at, short(target), "ink", anchor="end", turn=-40)]
    width = left + wide * len(grid.columns) + 6
    return Drawing(max(width, width_of(title, 11)), bottom + slant, tuple(items), alt)


def legend(looks: Sequence[Look], width: float) -> Drawing:
    """The arms with their marks, in as many rows as the width needs; for files."""
    items: list[Item] = []
    x, y = 4.0, 12.0
    for look in looks:
        needed = 34 + width_of(look.name)
        if x > 4 and x + needed > width:
            x, y = 4.0, y + 16
        items += key(look, x, y)
        items += [Text((x + 26, y + 3.5), look.name, "ink")]
        x += needed
    return Drawing(width, y + 14, tuple(items))


def key(look: Look, x: float, y: float) -> list[Item]:
    """The mark of an arm with a piece of its line."""
    line = Line(((x, y), (x + 22, y)), look.colour, 1.8, look.dash)
    mark = Mark((x + 11, y), look.shape, look.colour, 3.6 if look.line else 4.5)
    return [line, mark] if look.line else [mark]
