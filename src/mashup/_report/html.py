"""What all pages share: templates, pictures as data URIs, units that do not break off."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mashup._report.markdown import capital


@dataclass(frozen=True)
class Picture:
    """An image as data URIs, for light and dark pages, and the same in words."""

    light: str
    dark: str
    alt: str


def picture_of(light: bytes, dark: bytes, alt: str) -> Picture:
    """From the SVG of the same drawing in the light and in the dark theme."""
    return Picture(_uri(light), _uri(dark), alt)


def _uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def environment() -> Environment:
    """Templates of this package; everything is escaped, nothing may be missing."""
    made = Environment(
        loader=PackageLoader("mashup._report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["capital"] = capital
    made.filters["tight"] = tight
    made.filters["anchor"] = anchor
    return made


def render_page(template: str, **values: Any) -> str:
    """A page with the script that sorts its tables; the page allows this script alone."""
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text: str = environment().get_template(template).render(
        script=Markup(script), script_hash=digest, **values  # the script is our own file
    )  # fmt: skip
    return text


@cache
def _script() -> str:
    return files("mashup._report").joinpath("sort.js").read_text(encoding="utf-8")


def anchor(title: str) -> str:
    """``title`` as the id of a heading: ``costs-in-seconds``."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def tight(text: str) -> str:
    """``text`` with spaces before units that no line breaks at."""
    for unit in ("%", "points", "seconds", "steps", "s)"):
        text = text.replace(f" {unit}", f"\u00a0{unit}")
    return text
