"""Datasets spoiled: one row of every format, and the whole file of every kind."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from corpus import values
from corpus.seeds import Files, Special
from helpers import prompt_rows

ROWS = 40
_USER, _SAYS = {"role": "user", "content": "Is {n} even?"}, {"role": "assistant", "content": "no"}
#: A row of each format, and the flags that it needs.
FORMATS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "prompt": ({"prompt": "Is {n} even?", "completion": "no"}, ()),
    "messages": ({"messages": [_USER, _SAYS]}, ()),
    "parts": ({"messages": [_USER, _SAYS | {"content": [{"type": "text", "text": "no"}]}]}, ()),
    "lists": ({"prompt": [_USER], "completion": [_SAYS]}, ()),
    "sharegpt": (
        {
            "conversations": [
                {"from": "human", "value": "Is {n} even?"},
                {"from": "gpt", "value": "no"},
            ]
        },
        (),
    ),
    "alpaca": ({"instruction": "Is it even?", "input": "{n}", "output": "no", "system": "x"}, ()),
    "text": ({"text": "Is {n} even? => no"}, ("--separator", "=>")),
    "columns": (
        {"question": "Is {n} even?", "label": 1},
        (
            "--prompt-column",
            "question",
            "--completion-column",
            "label",
            "--label-names",
            "yes",
            "no",
        ),
    ),
    "arc": (
        {
            "question": "Is {n} even?",
            "choices": {"label": ["A", "B"], "text": ["yes", "no"]},
            "answerKey": "B",
        },
        (),
    ),
    "hellaswag": ({"ctx": "It is {n}.", "endings": ["a", "b", "c", "d"], "label": "2"}, ()),
    "piqa": ({"goal": "Make {n}.", "sol1": "a", "sol2": "b", "label": 1}, ()),
    "winogrande": (
        {"sentence": "The _ is {n}.", "option1": "a", "option2": "b", "answer": "2"},
        (),
    ),
}
_MANY = {
    "list": "[]",
    "dict": "{}",
    "null": "null",
    "number": "7",
    "text": '"x"',
    "deep": "[" * 100_000,
    "deep-dict": '{"a":' * 100_000,
    "deep-in-row": '{"prompt": ' + "[" * 50_000 + "]" * 50_000 + "}",
    "half-pair": r'{"prompt": "\ud83d", "completion": "no"}',
    "nan": '{"prompt": NaN, "completion": 1}',
    "pair-turned": r'{"prompt": "\ude00\ud83d", "completion": "no"}',
    "digits": '{"prompt": ' + "9" * 5000 + "}",
    "twice": '{"prompt": "a", "prompt": "b", "completion": "c"}',
    "comma": '{"prompt": "a",}',
    "two-in-a-line": '{"prompt": "a"} {"prompt": "b"}',
    "cut": '{"prompt": "a", "comp',
    "html": "<html>",
    "other-format": '{"messages": []}',
    "no-columns": '{"nothing": 1}',
    "zero-byte": '{"prompt": "a\0b"}',
    "long": '{"prompt": "' + "y" * 5_000_000 + '", "completion": "no"}',
    "single-quotes": "{'prompt': 'a'}",
    "long-key": '{"' + "k" * 1_000_000 + '": 1}',
    "columns": json.dumps({f"c{n}": n for n in range(50_000)}),
    "control": r'{"prompt": "\u001b[2J", "completion": "no"}',
    "lfs": "version https://git-lfs.github.com/spec/v1",
    "blank-answer": '{"prompt": "a", "completion": " "}',
    "blank-prompt": '{"prompt": "", "completion": "a"}',
    "line-separator": '{"prompt": "a\u2028b", "completion": "no"}',
    "bool": '{"prompt": true, "completion": false}',
}


def _good(form: str) -> list[dict[str, Any]]:
    text = json.dumps(FORMATS[form][0])
    return [json.loads(text.replace("{n}", str(n))) for n in range(ROWS)]


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row).encode()


def datasets() -> Iterator[tuple[str, Files, str]]:
    """``format/change``, one file, and what is right of it."""
    for form in FORMATS:
        rows = [_line(row) for row in _good(form)]
        yield f"{form}/good", {"data.jsonl": b"\n".join(rows)}, "accepted"
        row = _good(form)[3]
        for name, text in values.changes(row):
            right = "refused" if form == "prompt" and _unusable(name) else ""
            lines = [*rows[:3], text.replace(b"\n", b""), *rows[4:]]
            yield f"{form}/{name}", {"data.jsonl": b"\n".join(lines)}, right
    rows = [_line(row) for row in prompt_rows(60)]
    for name, text in _MANY.items():
        spoiled = text.encode("utf-8", "surrogatepass")
        right = "" if name in ("line-separator", "control", "twice", "nan") else "refused"
        for place, lines in {
            "first": [spoiled, *rows],
            "last": [*rows, spoiled],
            "only": [spoiled],
            "all": [spoiled] * 30,
        }.items():
            # a long row that the sample does not have is never read
            told = "" if name == "long" and place in ("first", "last") else right
            yield f"line/{name}-{place}", {"data.jsonl": b"\n".join(lines)}, told
    for name, (file, content, right) in _files(rows).items():
        yield f"file/{name}", {file: content}, right


def _unusable(change: str) -> bool:
    """Whether a prompt or completion of this change can never be trained on."""
    kind = change.partition("=")[2]
    bad = ("null", "true", "false", "half", "overflow", "nan", "minus-infinity", "empty-text")
    bad += (
        "surrogate",
        "list",
        "list-of-null",
        "list-of-text",
        "dict",
        "dict-of-null",
        "in-a-list",
    )
    bad += ("dict-of-list", "deep-list", "deep-dict", "not-json")
    return kind in bad or change.endswith(("-dropped", "-twice-as-null"))


def _files(rows: list[bytes]) -> dict[str, tuple[str, bytes | Special, str]]:
    """Name to file name, content, and what is right."""
    good = b"\n".join(rows) + b"\n"
    made: dict[str, tuple[str, bytes | Special, str]] = {
        "bom": ("data.jsonl", b"\xef\xbb\xbf" + good, "fine"),
        "crlf": ("data.jsonl", good.replace(b"\n", b"\r\n"), "fine"),
        "cr": ("data.jsonl", good.replace(b"\n", b"\r"), ""),
        "blank-lines": ("data.jsonl", good.replace(b"\n", b"\n\n \n"), "fine"),
        "no-last-end": ("data.jsonl", good.rstrip(), "fine"),
        "spaces": ("data.jsonl", good.replace(b"\n", b"  \n\t"), "fine"),
        "upper-suffix": ("data.JSONL", good, ""),
        "no-suffix": ("data", good, "refused"),
        "txt": ("data.txt", good, "refused"),
    }
    as_list = b"[" + b",".join(rows) + b"]"
    kinds = {
        "jsonl": good,
        "json": as_list,
        "csv": _table(","),
        "tsv": _table("\t"),
        "parquet": _parquet(),
    }
    for kind, text in kinds.items():
        made |= {f"{kind}-{n}": (f"data.{kind}", t, r) for n, t, r in _spoiled(text)}
        made[f"{kind}-is-good"] = (f"data.{kind}", text, "fine")
        for other, content in kinds.items():
            if other != kind:
                made[f"{other}-called-{kind}"] = (f"data.{kind}", content, "")
        for name, special in _SPECIALS.items():
            made[f"{kind}-is-{name}"] = (f"data.{kind}", special, "refused")
        made[f"{kind}-gz"] = (f"data.{kind}.gz", gzip.compress(text), "refused")
        made[f"{kind}-gz-inside"] = (f"data.{kind}", gzip.compress(text), "refused")
    objects = {
        "data": b'{"data": ' + as_list + b"}",
        "rows": b'{"rows": ' + as_list + b"}",
        "data-is-dict": b'{"data": {}}',
        "nested": b'{"data": {"data": ' + as_list + b"}}",
        "number": b"7",
        "text": b'"x"',
        "null": b"null",
        "empty-list": b"[]",
        "list-of-lists": b"[[1]]",
        "deep": b"[" * 100_000 + b"]" * 100_000,
        "mixed": as_list[:-1] + b', 7, null, "x"]',
    }
    for name, text in objects.items():
        right = {"data": "fine"}.get(name, "refused")
        made[f"json-object-{name}"] = ("data.json", text, right)
    for name, text in _TABLES.items():
        rows_of = [f"Is {n} even?" for n in range(60)]
        body = "\n".join(text.replace("{q}", q) for q in rows_of)
        made[f"csv-{name}"] = ("data.csv", f"prompt,completion\n{body}\n".encode(), "")
    for name, head in _HEADS.items():
        body = _table(",").split(b"\n", 1)[1]
        made[f"csv-head-{name}"] = ("data.csv", head + b"\n" + body, "")
    return made


_SPECIALS = {
    "a-pipe": Special("pipe"),
    "a-folder": Special("folder"),
    "a-dangling-link": Special("link", "gone"),
    "a-link-to-its-folder": Special("link", "."),
    "zeros-without-end": Special("link", "/dev/zero"),
    "random-without-end": Special("link", "/dev/urandom"),
    "nothing": Special("link", "/dev/null"),
    "sparse": Special("sparse", str(1 << 40)),
    "a-sparse-gigabyte": Special("sparse", str(1 << 30)),
    "a-socket-link": Special("link", "/proc/self/mem"),
}
_TABLES = {
    "quote-open": '"{q},no',
    "quote-in-cell": 'x"{q}",no',
    "three-cells": "{q},no,more",
    "one-cell": "{q}",
    "no-cells": ",",
    "zero-byte": "{q}\0,no",
    "formula": "=cmd('{q}'),no",
    "spaces": " {q} , no ",
    "semicolons": "{q};no",
    "escape": "{q}\x1b[2J,no",
    "many-cells": "{q}" + "," * 5000,
    "long-cell": "{q}" + "z" * 200_000 + ",no",
}
_HEADS = {
    "empty": b"",
    "one": b"prompt",
    "same": b"prompt,prompt",
    "spaces": b" prompt , completion ",
    "upper": b"Prompt,Completion",
    "numbers": b"1,2",
    "bom": b"\xef\xbb\xbfprompt,completion",
    "latin-1": b"prompt,compl\xe9tion",
    "zero": b"prompt\0,completion",
    "wide": b"," * 100_000,
    "quoted": b'"prompt","completion"',
    "open-quote": b'"prompt,completion',
    "none": b",",
}


def _spoiled(text: bytes) -> Iterator[tuple[str, bytes, str]]:
    yield "empty", b"", "refused"
    yield "white", b" \n \n", "refused"
    yield "zeros", bytes(1000), "refused"
    yield "binary", bytes(range(256)) * 8, "refused"
    yield "utf-16", text.decode("utf-8", "replace").encode("utf-16"), "refused"
    yield "latin-1", text.replace(b"even", b"\xe9ven"), ""
    for share in range(1, 10):
        yield f"cut-{share}", text[: len(text) * share // 10 + 3], ""
    for n in range(12):
        place = len(text) * (2 * n + 1) // 24
        yield f"flip-{n}", text[:place] + bytes([text[place] ^ 0x41]) + text[place + 1 :], ""
    yield "twice", text + text, ""
    yield "pickled", b"\x80\x04\x95" + text, "refused"


def _table(delimiter: str) -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["prompt", "completion"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(prompt_rows(60))
    return stream.getvalue().encode()


def _parquet() -> bytes:
    import pyarrow
    from pyarrow import parquet

    stream = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(prompt_rows(60)), stream)
    return stream.getvalue()
