"""Cells of an experiment's tables: text as people read it, and the number behind it."""

from __future__ import annotations

from dataclasses import dataclass

from mashup._report import numbers
from mashup._report.tables import Cell, Table
from mashup.results.statistics import Difference


@dataclass(frozen=True)
class Titled:
    """A table with its heading, and a note below it.

    Attributes:
        key: name of its files.
    """

    key: str
    title: str
    table: Table
    note: str = ""


def percent(share: float, tone: str = "") -> Cell:
    return Cell(numbers.percent(share), tone=tone, value=share)


def loss(value: float) -> Cell:
    return Cell(numbers.loss(value), value=value)


def whole(value: float) -> Cell:
    return Cell(numbers.count(value), value=value)


def seconds(value: float) -> Cell:
    return Cell(numbers.seconds(value), value=value)


def gain(difference: Difference | None) -> Cell:
    """Points of accuracy, the interval below."""
    if difference is None:
        return Cell(numbers.NONE)
    tone = difference.verdict(higher_is_better=True)
    text, detail = numbers.points(difference.value), numbers.interval(difference)
    return Cell(text, detail, "" if tone == "within noise" else tone, difference.value)


def loss_gain(difference: Difference | None) -> Cell:
    """Nats, the interval below; less is better."""
    if difference is None:
        return Cell(numbers.NONE)
    tone = difference.verdict(higher_is_better=False)
    detail = f"[{numbers.signed(difference.low)}, {numbers.signed(difference.high)}]"
    text = numbers.signed(difference.value)
    return Cell(text, detail, "" if tone == "within noise" else tone, difference.value)


def p_value(p: float | None) -> Cell:
    return Cell(numbers.NONE) if p is None else Cell(f"{p:.3f}", value=p)
