"""Every field of a JSON text dropped, doubled, negated, made huge or of another type.

Values are JSON *texts*, since much that is wrong with a document (a name that stands twice,
``NaN``, ``1e400``) cannot be told from Python values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

DEEP = 10_000
_HOLE = "@@hole@@"

#: Name of a change -> the text that takes the place of a value.
TEXTS = {
    "null": "null",
    "true": "true",
    "false": "false",
    "zero": "0",
    "one": "1",
    "minus": "-1",
    "half": "0.5",
    "huge": str(10**30),
    "digits": "9" * 5000,
    "overflow": "1e400",
    "nan": "NaN",
    "minus-infinity": "-Infinity",
    "empty-text": '""',
    "text": '"x"',
    "text-of-true": '"true"',
    "text-of-false": '"false"',
    "long-text": '"' + "y" * 1_000_000 + '"',
    "surrogate": r'"\ud800"',
    "zero-byte": r'"a\u0000b"',
    "escape": r'"\u001b[2J\u001b]0;owned\u0007[bold]"',
    "upwards": '"../../etc/passwd"',
    "absolute": '"/etc/passwd"',
    "list": "[]",
    "list-of-null": "[null]",
    "list-of-text": '["x"]',
    "dict": "{}",
    "dict-of-null": '{"a": null}',
    "dict-of-list": '{"a": [1]}',
    "deep-list": "[" * DEEP + "]" * DEEP,
    "deep-dict": '{"a":' * DEEP + "1" + "}" * DEEP,
    "not-json": "nul",
}


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Path of every value in a document, those inside others as well."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    for key, part in inner:
        yield from places(part, (*path, key))


def changes(value: Any, paths: list[tuple] | None = None) -> Iterator[tuple[str, bytes]]:
    """Name and text of every change of a document, at every place or at ``paths``."""
    for path in paths if paths is not None else list(places(value)):
        name = ".".join(str(key) for key in path)
        old = _get(value, path)
        for change, text in _texts(old).items():
            yield f"{name}={change}", _put(value, path, text)
        yield f"{name}-dropped", _dropped(value, path)
        if isinstance(path[-1], str):
            yield f"{name}-twice", _twice(value, path, json.dumps(old))
            yield f"{name}-twice-as-null", _twice(value, path, "null")


def _texts(old: Any) -> dict[str, str]:
    texts = {k: t for k, t in TEXTS.items() if t != json.dumps(old)}
    if isinstance(old, int | float) and not isinstance(old, bool):
        texts |= {"negated": json.dumps(-old), "plus-one": json.dumps(old + 1)}
    if type(old) is int:
        texts |= {"as-float": json.dumps(float(old))}
    if isinstance(old, bool):
        texts |= {"not": json.dumps(not old)}
    return texts | {"as-text": json.dumps(json.dumps(old)), "in-a-list": json.dumps([old])}


def whole(text: bytes) -> Iterator[tuple[str, bytes]]:
    """Changes of a text file that are not of a field."""
    for change, other in TEXTS.items():
        yield f"all={change}", other.encode()
    yield "empty", b""
    yield "white", b" \n"
    yield "lfs-pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"
    yield "bom", b"\xef\xbb\xbf" + text
    yield "crlf", text.replace(b"\n", b"\r\n")
    yield "utf-16", text.decode().encode("utf-16")
    yield "latin-1", text.replace(b"e", b"\xe9", 1)
    yield "zero-bytes", bytes(len(text))
    yield "cut-in-half", text[: len(text) // 2]
    yield "one-byte-short", text.rstrip()[:-1]
    yield "text-behind", text + b"x"
    yield "twice", text + text
    yield "comment", b"// note\n" + text
    yield "trailing-comma", text.rstrip()[:-1] + b",}"


def _get(value: Any, path: tuple) -> Any:
    for key in path:
        value = value[key]
    return value


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _put(value: Any, path: tuple, text: str) -> bytes:
    made = _copy(value)
    _get(made, path[:-1])[path[-1]] = _HOLE
    return json.dumps(made, indent=1).replace(f'"{_HOLE}"', text).encode()


def _dropped(value: Any, path: tuple) -> bytes:
    made = _copy(value)
    del _get(made, path[:-1])[path[-1]]
    return json.dumps(made, indent=1).encode()


def _twice(value: Any, path: tuple, text: str) -> bytes:
    made = _copy(value)
    _get(made, path[:-1])[_HOLE] = None
    second = f"{json.dumps(path[-1])}: {text}"
    return json.dumps(made, indent=1).replace(f'"{_HOLE}": null', second).encode()
