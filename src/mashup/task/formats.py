"""Rows of one dataset file: JSONL, JSON, CSV or Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mashup.errors import InputError, Problem

Row = Mapping[str, Any]
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


def read_file(path: Path) -> list[Row]:
    """Rows of one file.

    Raises:
        InputError: missing, unreadable, or of a kind that is not known.
    """
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix)
    if reader is None:
        found, expected = f"suffix {path.suffix!r}", f"one of {', '.join(SUFFIXES)}"
        fix = "save it as one of these, or rename it"
        raise InputError(Problem("unknown kind of dataset", str(path), found, expected, fix))
    try:
        return reader(path)
    except InputError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise unreadable(path, error, f"{path.suffix[1:]} rows") from error


def unreadable(path: Path, error: Exception, expected: str) -> InputError:
    """The error for a dataset that is there but cannot be read."""
    fix = "check the file, or save it again"
    return InputError(Problem("cannot read dataset", str(path), str(error), expected, fix))


def _jsonl(path: Path) -> list[Row]:
    rows: list[Row] = []
    problems: list[Problem] = []
    # Not splitlines: it also cuts at U+2028 and the like, which JSON allows within strings.
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            row = str(error)
        if isinstance(row, dict):
            rows.append(row)
        else:
            where, fix = f"{path}, line {number}", "mend or remove the line"
            found, expected = str(row)[:80], "one object a line"
            problems.append(Problem("not a JSON object", where, found, expected, fix))
    if problems:
        raise InputError(*problems[:10])
    return rows


def _json(path: Path) -> list[Row]:
    value = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise ValueError("the file is not a list of objects")
    return value


def _csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def _parquet(path: Path) -> list[Row]:
    from pyarrow import parquet

    return parquet.read_table(path).to_pylist()
