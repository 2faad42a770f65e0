"""Cases beyond checkpoints: every named way to spoil what else a command reads."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from corpus import names, states
from corpus.bases import bases
from corpus.cases import Case
from corpus.data import FORMATS, datasets
from corpus.seeds import Files
from corpus.templates import TEMPLATE, templates
from corpus.world import World

KINDS = ("template", "base", "data", "state", "database", "name", "size")


def wider(world: World) -> Iterator[Case]:
    """All of them, ``kind/...``, in an order that does not change."""
    base: Files = world.made["base"]
    for name, text, right in templates():
        yield Case(f"template/{name}", {**base, TEMPLATE: text}, right)
    for name, files, right in bases(base):
        yield Case(f"base/{name}", files, right)
    for name, files, right in datasets():
        yield Case(f"data/{name}", files, right)
    for name, files in states.states(world.made):
        yield Case(f"state/{name}", files)
    for name, files in states.databases(world.made["library"]):
        yield Case(f"database/{name}", files)
    for name, files in names.names(world.made["library"]):
        yield Case(f"name/{name}", files)
    for place, text in _texts():
        yield Case(f"name/{place}", {"name": text.encode("utf-8", "surrogateescape")})
    rows = names.long_rows()
    for name, files in chain(names.sizes(world.made["library"], b""), rows):
        yield Case(f"size/{name}", files)


def _texts() -> Iterator[tuple[str, str]]:
    for place in ("task", "output", "experiment"):
        texts = names.NAMES if place == "output" else names.NAMES | names.TEXTS
        for name, text in texts.items():
            yield f"{place}/{name}", text


def flags(case: Case) -> tuple[str, ...]:
    """What a dataset's format needs on the command line."""
    return FORMATS.get(case.name.split("/")[1], ({}, ()))[1]
