"""Folders spoiled: files that are missing, empty, folders, links, pipes, and odd shard names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from corpus.seeds import INDEX, Files, Special, document

#: What takes the place of a file; ``{name}`` is the file's own name.
_SPECIALS = {
    "a-folder": Special("folder"),
    "a-pipe": Special("pipe"),
    "a-dangling-link": Special("link", "gone"),
    "a-link-to-itself": Special("link", "{name}"),
    "a-link-to-its-folder": Special("link", "."),
    "a-link-to-zeros-without-end": Special("link", "/dev/zero"),
    "a-link-to-nothing": Special("link", "/dev/null"),
}
#: Names of shards that no index may have.
_NAMES = {
    "upwards": "../outside.safetensors",
    "down-and-up": "x/../{name}",
    "here": "./{name}",
    "absolute": "/etc/hostname",
    "folder": ".",
    "parent": "..",
    "slash": "{name}/",
    "backslash": "..\\{name}",
    "empty": "",
    "space": " ",
    "long": "z" * 300 + ".safetensors",
    "very-long": "z" * 1_000_000,
    "zero-byte": "a\0b",
    "surrogate": "\ud800.safetensors",
    "lone-byte": "\udc80.safetensors",
    "url": "https://example.org/{name}",
    "home": "~/{name}",
    "config": "config.json",
    "other-case": "MODEL-00001-OF-00003.SAFETENSORS",
}


def specials(files: Files) -> Iterator[tuple[str, Files]]:
    """Every file of a folder gone, emptied, or no file."""
    for name in files:
        rest = {n: content for n, content in files.items() if n != name}
        yield f"{name}-missing", rest
        yield f"{name}-is-empty", files | {name: b""}
        for change, special in _SPECIALS.items():
            made = Special(special.kind, special.target.replace("{name}", name))
            yield f"{name}-is-{change}", rest | {name: made}
        moved = rest | {f"blobs/{name}": files[name], name: Special("link", f"blobs/{name}")}
        yield f"{name}-is-a-link-to-the-file", moved


def indices(files: Files) -> Iterator[tuple[str, Files]]:
    """Indices that point to the wrong places."""
    index = json.loads(files[INDEX])
    placed: dict[str, str] = index["weight_map"]
    tensor, shard = next(iter(placed.items()))
    others = [name for name in placed.values() if name != shard]
    for name, text in _NAMES.items():
        yield f"one-in-{name}", files | _index(index, placed | {tensor: text.format(name=shard)})
        text = text.format(name=shard)
        moved = {t: text if s == shard else s for t, s in placed.items()}
        yield f"shard-in-{name}", files | _index(index, moved)
    yield "in-another-shard", files | _index(index, placed | {tensor: others[0]})
    yield "all-in-one", files | _index(index, dict.fromkeys(placed, shard))
    yield "no-such-tensor", files | _index(index, placed | {"model.nothing.weight": shard})
    yield "no-such-shard", files | _index(index, placed | {"model.nothing.weight": "x.safetensors"})
    yield (
        "one-tensor-fewer",
        files | _index(index, {t: s for t, s in placed.items() if t != tensor}),
    )
    yield "one-shard-fewer", files | _index(index, {t: s for t, s in placed.items() if s != shard})
    yield "shards-swapped", files | {shard: files[others[0]], others[0]: files[shard]}
    yield "shard-doubled", files | {others[0]: files[shard]}
    yield "shard-beside", files | {"model-00004-of-00003.safetensors": files[shard]}


def _index(index: dict[str, Any], placed: dict[str, str]) -> dict[str, bytes]:
    return {INDEX: document(index | {"weight_map": placed})}
