"""Our own state spoiled: run folders, comparisons, experiments, and the databases of a library."""

from __future__ import annotations

import json
import pickle
import random
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from corpus import folders, values
from corpus.seeds import Files, Special

_FEW = ("null", "minus", "nan", "text", "list", "dict", "huge", "deep-list")
_INDEX, _LEDGER = ".mashup/index.sqlite", ".mashup/ledger.sqlite"


def states(made: Mapping[str, Files]) -> Iterator[tuple[str, Files]]:
    """``seed/file/change`` and the whole folder."""
    yield from _json("finished", "run.json", made, depth=2)
    yield from _lines("finished", "curve.jsonl", made)
    for file in ("test.json", "test-start.json", "mashup.json"):
        yield from _whole("finished", file, made)
    yield from _json("stopped", "run.json", made, depth=1)
    yield from _lines("stopped", "curve.jsonl", made)
    yield from _resume(made["stopped"])
    yield from _json("compared", "comparison.json", made, depth=1)
    yield from _json("compared", "scores.json", made, depth=2)
    yield from _lines("compared", "records.jsonl", made)
    yield from _json("loo", "experiment.json", made, depth=1)
    yield from _json("loo", "store.json", made)
    yield from _lines("loo", "records.jsonl", made)
    results = [name for name in made["loo"] if name.endswith("/result.json")]
    for file in results[::2]:
        yield from _json("loo", file, made, depth=1)
    yield from _files("finished", made)
    yield from _files("stopped", made)


def _json(
    seed: str, file: str, made: Mapping[str, Files], depth: int = 9
) -> Iterator[tuple[str, Files]]:
    yield from _whole(seed, file, made)
    value = json.loads(made[seed][file])  # type: ignore[arg-type]
    paths = [path for path in values.places(value) if len(path) <= depth and len(path) < 4]
    for name, text in _few(value, paths):
        yield f"{seed}/{file}/{name}", {**made[seed], file: text}
    for version in ("0", "2", "99", '"1"', "1.0", "null", "[]", "true"):
        whole = value if isinstance(value, dict) else {"rows": value}
        text = json.dumps(whole | {"version": "@@"}).replace('"@@"', version)
        yield f"{seed}/{file}/version-{version}", {**made[seed], file: text.encode()}


def _few(value: Any, paths: list[tuple]) -> Iterator[tuple[str, bytes]]:  # type: ignore[type-arg]
    """The changes that differ for a reader that checks types, and values that are lost or twice."""
    for name, text in values.changes(value, paths):
        if "=" not in name or name.rpartition("=")[2] in _FEW:
            yield name, text


def _whole(seed: str, file: str, made: Mapping[str, Files]) -> Iterator[tuple[str, Files]]:
    text = made[seed][file]
    assert isinstance(text, bytes)
    for name, other in values.whole(text):
        yield f"{seed}/{file}/{name}", {**made[seed], file: other}
    for share in range(1, 8):
        yield f"{seed}/{file}/cut-{share}", {**made[seed], file: text[: len(text) * share // 8]}


def _lines(seed: str, file: str, made: Mapping[str, Files]) -> Iterator[tuple[str, Files]]:
    """One line of a JSONL file spoiled, and lines lost, doubled, in another order."""
    yield from _whole(seed, file, made)
    text = made[seed][file]
    assert isinstance(text, bytes)
    lines = text.splitlines()
    last = json.loads(lines[-1])
    for name, other in _few(last, [(key,) for key in last]):
        spoiled = b"\n".join([*lines[:-1], other.replace(b"\n", b""), b""])
        yield f"{seed}/{file}/{name}", {**made[seed], file: spoiled}
    orders = {
        "first-lost": lines[1:], "last-lost": lines[:-1], "backwards": lines[::-1],
        "first-twice": [lines[0], *lines], "last-twice": [*lines, lines[-1]],
        "middle-lost": [lines[0], lines[-1]], "blank-line": [lines[0], b"", *lines[1:]],
        "torn": [*lines[:-1], lines[-1][:9]], "other": [*lines, b"{}"], "number": [*lines, b"7"],
        "binary": [*lines, bytes(range(128, 200))],
        "long": [*lines, b'"' + b"x" * 1_000_000 + b'"'],
    }  # fmt: skip
    for name, order in orders.items():
        content = b"\n".join([*order, b""])
        yield f"{seed}/{file}/lines-{name}", {**made[seed], file: content}
        yield f"{seed}/{file}/lines-{name}-no-end", {**made[seed], file: content[:-1]}


def _files(seed: str, made: Mapping[str, Files]) -> Iterator[tuple[str, Files]]:
    flat = {name: c for name, c in made[seed].items() if "/" not in name}
    rest = {name: c for name, c in made[seed].items() if "/" in name}
    for name, files in folders.specials(flat):
        yield f"{seed}/folder/{name}", {**rest, **files}
    yield f"{seed}/folder/only-other-files", {"notes.txt": b"mine"}
    yield f"{seed}/folder/nothing", {}


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        import os

        return os.system, ("touch precious/run",)


def _resume(good: Files) -> Iterator[tuple[str, Files]]:
    """Every file of the resume point."""
    for name in [name for name in good if "/" in name]:
        text = good[name]
        assert isinstance(text, bytes)
        tail = name.rsplit("/", 1)[1]
        changed: dict[str, bytes | Special | None] = {
            "missing": None, "empty": b"", "zeros": bytes(len(text)),
            "half": text[: len(text) // 2],
            "one-byte-short": text[:-1], "longer": text + b"x", "pickled": pickle.dumps(_Evil()),
            "number": b"7", "text": b"x", "folder": Special("folder"), "pipe": Special("pipe"),
            "dangling": Special("link", "gone"), "endless": Special("link", "/dev/zero"),
        }  # fmt: skip
        changed |= {
            f"flip-{n}": text[:p] + bytes([text[p] ^ 0x21]) + text[p + 1 :]
            for n, p in enumerate(len(text) * k // 7 for k in range(7))
            if p < len(text)
        }
        for change, content in changed.items():
            rest = {n: c for n, c in good.items() if n != name}
            yield (
                f"stopped/resume/{tail}-{change}",
                rest if content is None else {**rest, name: content},
            )
        if name.endswith(".json"):
            value = json.loads(text)
            if not isinstance(value, dict):
                continue
            for change, other in _few(value, [(key,) for key in value]):
                yield f"stopped/resume/{tail}/{change}", {**good, name: other}


def databases(library: Files) -> Iterator[tuple[str, Files]]:
    """``index/change`` and ``ledger/change``: what is below ``.mashup`` with one file spoiled."""
    good = {name: c for name, c in library.items() if name.startswith(".mashup")}
    for kind, file in {"index": _INDEX, "ledger": _LEDGER}.items():
        data = good[file]
        assert isinstance(data, bytes)
        for name, content in _bytes(data):
            yield f"{kind}/{name}", {**good, file: content}
        for name, script in _scripts(data):
            yield f"{kind}/sql-{name}", {**good, file: _altered(data, script)}
        rest = {n: c for n, c in good.items() if n != file}
        for name, special in _PLACES.items():
            yield f"{kind}/is-{name}", {**rest, file: special}
        for tail in ("-wal", "-shm", "-journal"):
            for name, content in {
                "zeros": bytes(4096),
                "text": b"x",
                "random": _noise(4096),
            }.items():
                yield f"{kind}/{name}{tail}", {**good, file + tail: content}
            yield f"{kind}/folder{tail}", {**good, file + tail: Special("folder")}
    for name, place in (_PLACES | {"a-file": b"x", "empty": b""}).items():
        yield f"index/folder-is-{name}", {".mashup": place}


_PLACES: dict[str, bytes | Special] = {
    "a-folder": Special("folder"),
    "a-pipe": Special("pipe"),
    "a-dangling-link": Special("link", "gone/gone"),
    "a-link-to-itself": Special("link", "index.sqlite"),
    "a-link-to-nothing": Special("link", "/dev/null"),
    "a-link-to-full": Special("link", "/dev/full"),
    "sparse": Special("sparse", str(1 << 32)),
}


def _noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def _bytes(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield "empty", b""
    yield "text", b"not a database"
    yield "zeros", bytes(len(data))
    yield "noise", _noise(len(data))
    yield "head-only", data[:100]
    yield "twice", data + data
    for share in range(1, 12):
        yield f"cut-{share}", data[: len(data) * share // 12]
    for page in range(0, len(data), 4096):
        yield f"page-{page}-zero", data[:page] + bytes(4096) + data[page + 4096 :]
        yield f"page-{page}-noise", data[:page] + _noise(4096) + data[page + 4096 :]
    for byte in range(100):
        yield f"head-{byte}", data[:byte] + bytes([data[byte] ^ 0xFF]) + data[byte + 1 :]
    used = [n for n in range(100, len(data)) if data[n]]
    for n, place in enumerate(random.Random(7).sample(used, 220)):
        yield f"flip-{n}", data[:place] + bytes([data[place] ^ (1 << n % 8)]) + data[place + 1 :]


_VALUES = {
    "null": "NULL", "text": "'x'", "number": "7", "float": "1e308", "minus": "-1", "empty": "''",
    "blob": "x'ff00fe'", "bad-text": "CAST(x'ff80' AS TEXT)", "long": "hex(zeroblob(500000))",
    "json": "'{}'", "json-list": "'[]'", "deep": "replace(hex(zeroblob(20000)), '0', '[')",
    "nan": "9e999", "zero-byte": "char(97, 0, 98)",
}  # fmt: skip


def _scripts(data: bytes) -> Iterator[tuple[str, str]]:
    with _opened(data) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        columns = {t: [r[1] for r in db.execute(f"PRAGMA table_info({t})")] for t in tables}
    for version in (0, 1, 2, 3, 4, 6, 99, 2**31 - 1, -1):
        yield f"version-{version}", f"PRAGMA user_version={version}"
    for table in tables:
        yield f"{table}-dropped", f"DROP TABLE {table}"
        yield f"{table}-emptied", f"DELETE FROM {table}"
        yield f"{table}-renamed", f"ALTER TABLE {table} RENAME TO other"
        yield f"{table}-other", f"DROP TABLE {table}; CREATE TABLE {table} (x)"
        yield f"{table}-view", f"DROP TABLE {table}; CREATE VIEW {table} AS SELECT 1 AS x"
        yield (
            f"{table}-refuses",
            (f"CREATE TRIGGER no BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END"),
        )
        for column in columns[table]:
            yield f"{table}.{column}-renamed", f"ALTER TABLE {table} RENAME COLUMN {column} TO y"
            for name, value in _VALUES.items():
                # Keys must stay distinct: one row of the table takes the value.
                one = f"WHERE rowid = (SELECT min(rowid) FROM {table})"
                yield f"{table}.{column}-{name}", f"UPDATE {table} SET {column} = {value} {one}"


def _opened(data: bytes) -> closing[sqlite3.Connection]:
    db = sqlite3.connect(":memory:")
    db.deserialize(_rollback(data))
    return closing(db)


def _rollback(data: bytes) -> bytes:
    """The same database without a write-ahead log, which one in memory cannot have."""
    return data[:18] + b"\x01\x01" + data[20:]


def _altered(data: bytes, script: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "db"
        path.write_bytes(_rollback(data))
        with closing(sqlite3.connect(path)) as db:
            try:
                db.executescript(script)
            except sqlite3.Error:
                db.rollback()  # a column that takes no such value: the file as it was
        return path.read_bytes()
