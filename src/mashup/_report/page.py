"""The report as one HTML page that needs no other file and no network."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mashup._report import numbers
from mashup._report.canvas import Drawing, to_svg
from mashup._report.plots import Look, key
from mashup._report.sections import Part, Section
from mashup._report.style import PALETTE
from mashup._report.tables import Table

_MOST_ROWS = 500  # of a folded table; a longer one stands in its CSV file only


def page(parts: Sequence[Part], models: Section | None, files: Sequence[str] = ()) -> str:
    """The whole of ``index.html``.

    Args:
        parts: the experiments.
        models: them side by side, None for one.
        files: that the page links to, relative to it.
    """
    names = numbers.listed([part.study.name for part in parts])
    script, style = _own_file("page.js"), _own_file("page.css")
    text: str = _environment().get_template("page.html.j2").render(
        title=names if models else f"{names}: {parts[0].verdict.lead}",
        eyebrow=f"{'experiments' if models else 'results of'} {names}",
        models=models,
        parts=parts,
        made=_made(parts),
        files=files,
        palette=PALETTE,
        style=Markup(style),  # ours, as the script is
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip
    return text


def _made(parts: Sequence[Part]) -> str:
    """Date, hardware and command, as far as they are known; of a single experiment."""
    known = dict(parts[0].facts) if len(parts) == 1 else {}
    return " · ".join(known[word] for word in ("Made", "Hardware", "Command") if word in known)


@cache
def _own_file(name: str) -> str:
    return files("mashup._report").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    """The template of this package; everything is escaped, nothing may be missing."""
    made = Environment(
        loader=PackageLoader("mashup._report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {
        "anchor": _anchor, "capital": numbers.capital, "folded": _folded, "svg": _svg,
        "swatch": _swatch, "tight": _tight,
    }  # fmt: skip
    made.filters.update(filters)
    return made


def _folded(table: Table) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Rows that are seen at once, and those behind a click."""
    shown = len(table.rows) if table.shown is None else table.shown
    rest = table.rows[shown:]
    return table.rows[:shown], rest if len(rest) <= _MOST_ROWS else ()


def _svg(drawing: Drawing) -> Markup:
    return Markup(to_svg(drawing))  # texts are escaped where the elements are made


def _swatch(look: Look) -> Markup:
    """The mark of an arm, for a legend in HTML."""
    svg = to_svg(Drawing(22, 14, tuple(key(look, 0, 7))))
    return Markup(svg.replace('role="img" aria-label=""', 'aria-hidden="true"'))


def _anchor(title: str) -> str:
    """``title`` as the id of a heading: ``costs-in-seconds``."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _tight(text: str) -> str:
    """``text`` with spaces before units that no line breaks at."""
    for unit in ("%", "points", "seconds", "steps", "s)"):
        text = text.replace(f" {unit}", f"\u00a0{unit}")
    return text
