"""Rows of a dataset: a file, a folder, an id on the Hub, a ``datasets`` object, or a list.

Files are streamed where their format allows it: JSON Lines, CSV, TSV and Parquet. A JSON list is
read whole.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from pydantic_core import from_json

from mashup.errors import InputError, Problem
from mashup.hub import (
    REPOSITORY,
    faults,
    get_json,
    is_offline,
    is_unreachable,
    offline,
    problem_of,
    quiet,
)
from mashup.strict import check_plain
from mashup.task.example import RowError

Row = Mapping[str, Any]
#: Line or row number, and the row, or why it is not a row.
Numbered = tuple[int, Row | RowError]
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
#: Environment variable that replaces :data:`MAX_BYTES` as the size limit of a dataset.
LIMIT = "MASHUP_MAX_DATASET_BYTES"
MAX_BYTES = 2_000_000_000
_TRAIN = ("train",)
_DEV = ("dev", "valid", "validation")
_TEST = ("test",)
_LONGEST_LINE = 16_000_000  # characters
_DELIMITERS = (",", ";", "\t")
_UNREADABLE = (OSError, ValueError, RecursionError, MemoryError, NotImplementedError, csv.Error)


class LineError(RowError):
    """A line that is not a JSON object."""

    what = "not a JSON object"
    fix = "mend or remove the line, or skip all bad rows with `drop_bad`"


@dataclass(frozen=True)
class Source:
    """The rows of one split, not read yet.

    Attributes:
        name: the file, or another name for messages.
        unit: what row numbers count: ``line`` or ``row``.
        read: starts reading at the first row.
        labels: label names of integer columns (``datasets.ClassLabel``), by column.
        folder: that the paths of pictures in its rows are relative to.
    """

    name: str
    unit: str
    read: Callable[[], Iterator[Numbered]]
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    folder: Path = Path()

    def place(self, number: int) -> str:
        """``line 3 of train.jsonl``."""
        return f"{self.unit} {number} of {self.name}"


@dataclass(frozen=True)
class Rows:
    """Sources by split."""

    train: Source
    dev: Source | None = None
    test: Source | None = None


def read_rows(source: Any, *, test: Any = None) -> Rows:
    """Find a dataset, with its own dev and test splits if it has them.

    A folder holds ``train.jsonl`` (or .json, .csv, .tsv, .parquet) and may hold ``dev`` or
    ``validation`` and ``test``; or it was written by ``datasets.save_to_disk``. A
    ``validation`` split without a ``test`` split is the test set, as is usual on the Hub.

    Raises:
        InputError: not found or unreadable.
    """
    rows = _sources(source)
    if test is not None:
        is_path = isinstance(test, str | Path)
        held = _file(Path(test)) if is_path else _sources(test, "the test rows").train
        return Rows(rows.train, rows.dev, held)
    if rows.dev and not rows.test:
        return Rows(rows.train, None, rows.dev)
    return rows


def _sources(source: Any, label: str = "the dataset") -> Rows:
    if isinstance(source, Rows):
        return source
    if not isinstance(source, str | Path):
        return _splits(source, label)
    text, path = str(source), Path(source)
    if path.is_dir():
        return _folder(path)
    if path.exists():
        return Rows(_file(path))
    if path.suffix in SUFFIXES or text.startswith((".", "/", "~")):
        raise InputError(Problem("no such dataset", text, fix="check the path"))
    return _hub(text)


def _file(path: Path) -> Source:
    read_file(path)  # a kind or size that cannot be is refused before anything is read
    return Source(str(path), _unit_of(path), lambda: read_file(path), folder=path.parent)


def _folder(path: Path) -> Rows:
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        return _saved(path)
    train = _named(path, _TRAIN)
    if train is None:
        expected = "train.jsonl, or a folder saved by datasets"
        fix = "give the file itself, or call it train"
        raise InputError(
            Problem("no dataset in the folder", str(path), "no train file", expected, fix)
        )
    dev, test = _named(path, _DEV), _named(path, _TEST)
    return Rows(_file(train), _file(dev) if dev else None, _file(test) if test else None)


def _saved(path: Path) -> Rows:
    import datasets

    try:
        return _splits(datasets.load_from_disk(str(path)), str(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error, "a folder saved by datasets") from error


def _named(folder: Path, stems: tuple[str, ...]) -> Path | None:
    paths = (folder / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES)
    return next((path for path in paths if path.exists()), None)


def _hub(name: str) -> Rows:
    """``owner/name`` or ``owner/name:config`` from the Hub."""
    import datasets

    dataset, _, config = name.partition(":")
    unreachable = _unreachable(dataset)
    try:
        with offline() if unreachable else contextlib.nullcontext():
            return _splits(datasets.load_dataset(dataset, config or None), name)
    except Exception as error:  # the Hub's errors have no common base
        found = str(error).strip().splitlines()[0][:200] if str(error) else type(error).__name__
        found = f"{unreachable}; {found}" if unreachable else found
        fix = "check the name and the network (HF_HUB_OFFLINE), or download it and give the file"
        raise InputError(Problem("no such file or Hub dataset", name, found, fix=fix)) from error


def _unreachable(dataset: str) -> str:
    """Why the Hub cannot be asked for a dataset, "" if it can; ``datasets`` tries 23 seconds long.

    Raises:
        InputError: the Hub has no such dataset.
    """
    if is_offline() or not REPOSITORY.fullmatch(dataset):
        return ""
    try:
        with quiet():
            next(get_json(f"datasets/{dataset}"))
    except faults() as error:
        why = problem_of(error, dataset)
        if is_unreachable(error):
            return f"{why.what}: {why.found}"
        if why.code == "hub.missing":
            fix = "check the path or the name; for a private dataset log in with 'hf auth login'"
            found = "no such file, and no such dataset on the Hub"
            raise InputError(
                Problem("no such file or Hub dataset", dataset, found, fix=fix)
            ) from error
    except ValueError:  # an answer of something else; let ``datasets`` say what it is
        return ""
    return ""


def _splits(dataset: Any, name: str) -> Rows:
    """Rows of a ``Dataset``, a ``DatasetDict`` or anything that gives mappings."""
    if not hasattr(dataset, "keys"):
        return Rows(_source(dataset, name))

    def first(stems: tuple[str, ...]) -> Source | None:
        found = (stem for stem in stems if stem in dataset)
        return next((_source(dataset[stem], f"{name} ({stem})") for stem in found), None)

    train = first(_TRAIN) or Source(name, "row", lambda: iter(()))
    return Rows(train, first(_DEV), first(_TEST))


def _source(dataset: Any, name: str) -> Source:
    features = getattr(dataset, "features", None) or {}
    labels = {c: kind.names for c, kind in features.items() if getattr(kind, "names", None)}
    return Source(name, "row", lambda: enumerate(dataset, 1), labels)


def _unit_of(path: Path) -> str:
    """What the row numbers of a file count."""
    return "row" if path.suffix in (".json", ".parquet") else "line"


def read_file(path: Path) -> Iterator[Numbered]:
    """Numbered rows of one file.

    Kind and size are checked at once. The file is opened when the first row is requested.

    Raises:
        InputError: missing, unreadable, not a plain file, too large, or an unknown suffix.
    """
    reader = _READERS.get(path.suffix)
    if reader is None:
        found, expected = f"suffix {path.suffix!r}", f"one of {', '.join(SUFFIXES)}"
        fix = "save it as one of these, or rename it"
        raise InputError(Problem("unknown kind of dataset", str(path), found, expected, fix))
    try:
        _check_size(path, check_plain(path))
    except OSError as error:
        raise _unreadable(path, error, "a plain file that can be read") from error
    return _reading(path, reader)


def _reading(path: Path, reader: Callable[[Path], Iterator[Numbered]]) -> Iterator[Numbered]:
    try:
        yield from reader(path)
    except _UNREADABLE as error:
        if isinstance(error, InputError):
            raise
        raise _unreadable(path, error, f"{path.suffix[1:]} rows") from error


def _check_size(path: Path, size: int) -> None:
    limit = os.environ.get(LIMIT, "")
    most = int(limit) if limit.isdecimal() else MAX_BYTES
    if size > most:
        found, expected = f"{size:,} bytes", f"at most {most:,}"
        fix = f"use a part of it, or set a larger {LIMIT} in the environment"
        raise InputError(Problem("dataset is too large", str(path), found, expected, fix))


def _unreadable(path: Path, error: BaseException, expected: str) -> InputError:
    """The error for a dataset that exists but cannot be read."""
    found = str(error) or type(error).__name__
    fix = "check the file, or save it again"
    return InputError(Problem("cannot read dataset", str(path), found, expected, fix))


def _lines(stream: TextIO) -> Iterator[str]:
    """Lines of a text file, with a limit: a device or a sparse file can be one endless line."""
    while line := stream.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise ValueError(f"a line is longer than {_LONGEST_LINE:,} characters")
        yield line


def _jsonl(path: Path) -> Iterator[Numbered]:
    # A text stream splits at \n, \r\n and \r only. JSON strings may contain U+2028.
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(_lines(stream), 1):
            try:
                row = from_json(line, cache_strings="keys")  # twice as fast as Python's
            except ValueError:
                text = line.strip()
                if not text:
                    continue
                row = _slowly(text)
            if isinstance(row, dict | RowError):
                yield number, row
            else:
                yield number, LineError(f"{type(row).__name__} {str(row)[:60]}, not an object")


def _slowly(text: str) -> Any:
    """What Python's decoder makes of a line: it accepts more and explains more."""
    try:
        row, end = json.JSONDecoder().raw_decode(text)
    except RecursionError:
        return LineError("nested too deep")
    except json.JSONDecodeError as error:
        return LineError(f"{error.msg} at character {error.pos + 1}")
    except ValueError as error:  # a whole number of thousands of digits
        return LineError(str(error))
    return row if end == len(text) else LineError(f"more text at character {end + 1}")


def _json(path: Path) -> Iterator[Numbered]:
    """A list of objects, at the top or under the name ``data``."""
    with path.open(encoding="utf-8-sig") as stream:
        start = stream.read(1000).lstrip()[:1]
        if start not in ("[", "{"):
            raise ValueError("not a list of objects")
        stream.seek(0)
        try:
            value = json.load(stream)
        except RecursionError:
            raise ValueError("nested too deep") from None
    if isinstance(value, dict):
        value = value.get("data")
    if not isinstance(value, list):
        raise ValueError("neither a list of objects nor an object with a list named data")
    for number, row in enumerate(value, 1):
        is_row = isinstance(row, dict)
        yield number, row if is_row else LineError(f"{type(row).__name__}, not an object")


def _csv(path: Path) -> Iterator[Numbered]:
    """Rows under the names in the first line. The delimiter is the one that gives most names."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        head = stream.readline(_LONGEST_LINE)
        delimiter = max(_DELIMITERS, key=lambda d: len(next(csv.reader([head], delimiter=d), [])))
        stream.seek(0)
        reader = csv.reader(_lines(stream), delimiter=delimiter)
        names = next(reader, [])
        number = reader.line_num + 1
        for cells in reader:
            if cells:
                yield number, _by_name(names, cells)
            number = reader.line_num + 1


def _by_name(names: list[str], cells: list[str]) -> Row:
    """Like ``csv.DictReader``: extra cells are listed under None, missing cells are None."""
    row: dict[Any, Any] = dict(zip(names, cells, strict=False))
    row.update(dict.fromkeys(names[len(cells) :]))
    if len(cells) > len(names):
        row[None] = cells[len(names) :]
    return row


def _parquet(path: Path) -> Iterator[Numbered]:
    from pyarrow import parquet

    number = 0
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1000):
            for row in batch.to_pylist():
                number += 1
                yield number, row


_READERS: dict[str, Callable[[Path], Iterator[Numbered]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
}
