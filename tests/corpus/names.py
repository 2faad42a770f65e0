"""Names that mean something to a terminal, a shell, a table, a page or a file system; and sizes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from corpus.seeds import Files

#: Names that a file system takes.
NAMES = {
    "latin-1": os.fsdecode(b"caf\xe9"),
    "bytes": os.fsdecode(bytes(range(128, 168))),
    "escape": "\x1b[2J\x1b]0;owned\x07",
    "bell": "a\x07b",
    "line-end": "a\nb",
    "return": "a\rb",
    "tab": "a\tb",
    "delete": "a\x7fb",
    "c1": "a\x9b31mb",
    "longest": "x" * 255,
    "wide": "界" * 85,
    "formula": "=1+1",
    "plus": "+1",
    "minus": "-1",
    "at": "@SUM(A1)",
    "link": '=HYPERLINK("x")',
    "html": "<script>alert(1)<",
    "entity": "&lt;&#x41;",
    "quote": "a'b\"c",
    "markdown": "[a](b)|c*_`",
    "mathtext": "$\\frac{a}$",
    "tex": "\\input{x}%",
    "bold": "[bold red]x[",
    "close": "[",
    "space": " ",
    "spaces": "  a  ",
    "dots": "...",
    "hidden": ".hidden",
    "dash": "--help",
    "tilde": "~",
    "star": "*",
    "question": "?",
    "brackets": "[a-z]",
    "braces": "{name}",
    "percent": "%s%n",
    "dollar": "$HOME",
    "backtick": "`id`",
    "semicolon": "a;id",
    "pipe": "a|b",
    "hash": "a#b",
    "comma": "a,b",
    "colon": "a:b",
    "equals": "a=b",
    "backslash": "..\\..\\x",
    "encoded": "%2e%2e%2f",
    "url": "http:example",
    "nfd": "e\u0301",
    "nfc": "é",
    "cyrillic": "dоnor1",
    "zero-width": "a\u200bb",
    "bidi": "a\u202eb",
    "bom": "\ufeffa",
    "line-separator": "a\u2028b",
    "emoji": "👩‍👩‍👧",
    "combining": "a" + "\u0300" * 100,
    "nonchar": "a\ufffe",
    "null-word": "null",
    "true": "true",
    "number": "1",
    "float": "1e400",
    "nan": "nan",
    "con": "con",
    "base": "base",
    "scratch": "scratch",
    "mashup": ".mashup",
    "checkpoint": "checkpoint-5",
    "checkpoint-huge": "checkpoint-" + "9" * 200,
    "checkpoint-minus": "checkpoint--1",
    "part": ".x.0123abcd.mashup-part",
    "lock": ".x.mashup-lock",
    "git": ".git",
    "init": "__init__.py",
    "arabic-digits": "checkpoint-٣",
    "superscript": "checkpoint-²",
    "same-case": "DONOR1",
    "model-like": "models--owner--x",
    "snapshots": "snapshots",
    "nothing-visible": "\u2800",
}
#: Texts that are names for nobody, or of something outside.
TEXTS = {
    "up": "..",
    "here": ".",
    "empty": "",
    "out": "../../../escaped",
    "absolute": "/tmp/escaped-corpus",
    "down-up": "a/../../escaped",
    "zero-byte": "a\0b",
    "long": "x" * 256,
    "longest": "x" * 5000,
    "slash": "/",
    "inner": "a/b",
    "home": "~/escaped",
    "out-precious": "../precious",
    "trailing": "a/",
    "newline-up": "..\n",
    "wide": "界" * 100,
    "surrogate": "\udce9",
}


def names(library: Files) -> Iterator[tuple[str, Files]]:
    """``donor/name``: a library whose first donor, or the folder above it, is called so."""
    first = {n.split("/", 1)[1]: c for n, c in library.items() if n.startswith("donor1/")}
    second = {n: c for n, c in library.items() if n.startswith("donor2/")}
    both = {n: c for n, c in library.items() if n.startswith("donor")}
    for name, text in NAMES.items():
        yield f"donor/{name}", {**second, **{f"{text}/{n}": c for n, c in first.items()}}
        inner = {f"{text}/inner/{n}": c for n, c in first.items()}
        yield f"above/{name}", {**second, **inner}
        yield f"file/{name}", {**both, f"donor2/{text}": b"x"}


def sizes(library: Files, rows: bytes) -> Iterator[tuple[str, Files]]:
    """``size/what``: many files, deep folders, large files beside; and rows that are long."""
    first = {n: c for n, c in library.items() if not n.startswith(".mashup")}
    many = {f"donor1/file{n:05d}.txt": b"x" for n in range(3000)}
    yield "size/many-files", {**first, **many}
    yield "size/many-folders", {**first, **{f"empty{n}/x/y.txt": b"" for n in range(1500)}}
    yield "size/deep", {**first, "/".join(["d"] * 400) + "/x.txt": b""}
    copies = _renamed(first, 400)
    yield "size/many-donors", {**first, **copies}
    deep = {"/".join(["d"] * 200) + "/" + n: c for n, c in first.items()}
    yield "size/deep-donors", {**first, **deep}
    for file in (
        "README.md",
        "trainer_state.json",
        "mashup.json",
        "notes.json",
        "train_prompts.txt",
    ):
        for name, content in {"megabytes": b"x" * 20_000_000, "lines": b"x\n" * 3_000_000}.items():
            yield f"size/{file}-{name}", {**first, f"donor1/{file}": content}


def _renamed(files: Mapping[str, bytes], count: int) -> Files:  # type: ignore[type-arg]
    one = {n.split("/", 1)[1]: c for n, c in files.items() if n.startswith("donor1/")}
    return {f"copy{k}/{n}": c for k in range(count) for n, c in one.items()}


def long_rows() -> Iterator[tuple[str, Files]]:
    """``rows/what``: datasets that are large in one direction."""
    row = b'{"prompt": "Is %d even?", "completion": "no"}\n'
    good = b"".join(row % n for n in range(60))
    many = b"".join(row % n for n in range(200_000))
    yield "rows/many", {"data.jsonl": many}
    for size in (10_000, 100_000, 1_000_000, 15_000_000):
        long = b'{"prompt": "' + b"word " * (size // 5) + b'", "completion": "no"}\n'
        yield f"rows/long-{size}", {"data.jsonl": good + long}
        answer = b'{"prompt": "a", "completion": "' + b"word " * (size // 5) + b'"}\n'
        yield f"rows/long-answer-{size}", {"data.jsonl": good + answer}
    for count in (100, 5_000, 50_000):
        turns = b'{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}'
        talk = b'{"messages": [' + b", ".join([turns] * count) + b"]}\n"
        yield f"rows/turns-{count}", {"data.jsonl": talk * 20}
        columns = b", ".join(b'"c%d": 1' % n for n in range(count))
        wide = b"".join(row[:-2] % n + b", " + columns + b"}\n" for n in range(12))
        yield f"rows/columns-{count}", {"data.jsonl": wide}
    yield "rows/one-prompt", {"data.jsonl": row % 1 * 5000}
    yield "rows/options", {"data.jsonl": _options(5000) * 12}


def _options(count: int) -> bytes:
    texts = ", ".join(f'"{n}"' for n in range(count))
    return f'{{"ctx": "a", "endings": [{texts}], "label": "1"}}\n'.encode()
