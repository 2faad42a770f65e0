"""Rows of one dataset file, one after the other: JSONL, JSON, CSV, TSV or Parquet."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from pydantic_core import from_json

from mashup.errors import InputError, Problem
from mashup.strict import check_plain
from mashup.task.example import RowError

Row = Mapping[str, Any]
#: Line or row number, and what is there: a row, or why it is none.
Numbered = tuple[int, Row | RowError]
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
#: Environment variable for datasets of more bytes than :data:`MAX_BYTES`.
LIMIT = "MASHUP_MAX_DATASET_BYTES"
MAX_BYTES = 2_000_000_000
_LONGEST_LINE = 16_000_000  # characters
_DELIMITERS = (",", ";", "\t")
_UNREADABLE = (OSError, ValueError, RecursionError, MemoryError, NotImplementedError, csv.Error)


class LineError(RowError):
    """A line that is not a JSON object."""

    what = "not a JSON object"
    fix = "mend or remove the line, or leave out all bad rows with --drop-bad"


def unit_of(path: Path) -> str:
    """What the numbers of a file's rows count."""
    return "row" if path.suffix in (".json", ".parquet") else "line"


def read_file(path: Path) -> Iterator[Numbered]:
    """Rows of one file with their numbers, in bounded memory where the format allows it.

    The file is looked at when this is called and read when the rows are asked for.

    Raises:
        InputError: missing, unreadable, no plain file, too large, or of an unknown kind.
    """
    reader = _READERS.get(path.suffix)
    if reader is None:
        found, expected = f"suffix {path.suffix!r}", f"one of {', '.join(SUFFIXES)}"
        fix = "save it as one of these, or rename it"
        raise InputError(Problem("unknown kind of dataset", str(path), found, expected, fix))
    try:
        _check_size(path, check_plain(path))
    except OSError as error:
        raise unreadable(path, error, "a plain file that can be read") from error
    return _reading(path, reader)


def _reading(path: Path, reader: Callable[[Path], Iterator[Numbered]]) -> Iterator[Numbered]:
    try:
        yield from reader(path)
    except _UNREADABLE as error:
        if isinstance(error, InputError):
            raise
        raise unreadable(path, error, f"{path.suffix[1:]} rows") from error


def _check_size(path: Path, size: int) -> None:
    limit = os.environ.get(LIMIT, "")
    most = int(limit) if limit.isdecimal() else MAX_BYTES
    if size > most:
        found, expected = f"{size:,} bytes", f"at most {most:,}"
        fix = f"give a part of it, or a larger {LIMIT} in the environment"
        raise InputError(Problem("dataset is too large", str(path), found, expected, fix))


def unreadable(path: Path, error: BaseException, expected: str) -> InputError:
    """The error for a dataset that is there but cannot be read."""
    found = str(error) or type(error).__name__
    fix = "check the file, or save it again"
    return InputError(Problem("cannot read dataset", str(path), found, expected, fix))


def _lines(stream: TextIO) -> Iterator[str]:
    """Lines of a text file; a device or a sparse file can be one endless line."""
    while line := stream.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise ValueError(f"a line is longer than {_LONGEST_LINE:,} characters")
        yield line


def _jsonl(path: Path) -> Iterator[Numbered]:
    # The stream ends lines at \n, \r\n and \r only: JSON allows U+2028 and the like in strings.
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
    """A list of objects, alone or as ``data`` of an object."""
    with path.open(encoding="utf-8-sig") as stream:
        start = stream.read(1000).lstrip()[:1]
        if start not in ("[", "{"):
            raise ValueError("the file is not a list of objects")
        stream.seek(0)
        try:
            value = json.load(stream)
        except RecursionError:
            raise ValueError("nested too deep") from None
    if isinstance(value, dict):
        value = value.get("data")
    if not isinstance(value, list):
        raise ValueError("the file is not a list of objects, nor an object with such a list, data")
    for number, row in enumerate(value, 1):
        is_row = isinstance(row, dict)
        yield number, row if is_row else LineError(f"{type(row).__name__}, not an object")


def _csv(path: Path) -> Iterator[Numbered]:
    """Rows by the names of the first line; between the cells is what cuts it into most names."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        head = stream.readline(_LONGEST_LINE)
        delimiter = max(_DELIMITERS, key=lambda d: len(next(csv.reader([head], delimiter=d), [])))
        stream.seek(0)
        reader = csv.reader(_lines(stream), delimiter=delimiter)
        names = next(reader, [])
        number = reader.line_num + 1
        for cells in reader:
            if cells:
                yield number, _named(names, cells)
            number = reader.line_num + 1


def _named(names: list[str], cells: list[str]) -> Row:
    """As ``csv.DictReader`` has it: cells to spare are under None, missing ones are None."""
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
