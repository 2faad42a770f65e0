"""Rows of a dataset: JSONL, JSON, CSV, Parquet, a folder, or an id on the Hub."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mashup.errors import InputError, Problem

Row = Mapping[str, Any]
_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_TRAIN = ("train",)
_DEV = ("dev", "valid", "validation")
_TEST = ("test",)


@dataclass(frozen=True)
class Rows:
    """Rows by split."""

    train: list[Row]
    dev: list[Row] = field(default_factory=list)
    test: list[Row] = field(default_factory=list)


def read_rows(source: str, *, test: str | None = None) -> Rows:
    """Read a dataset, with its own dev and test splits when it has them.

    A folder holds ``train.jsonl`` (or .json, .csv, .parquet) and may hold ``dev`` or
    ``validation`` and ``test``; or it was written by ``datasets.save_to_disk``. A
    ``validation`` split without a ``test`` split is the test set, as is usual on the Hub.

    Raises:
        InputError: not found, unreadable, or no rows.
    """
    path = Path(source)
    if path.is_dir():
        rows = _folder(path)
    elif path.exists():
        rows = Rows(read_file(path))
    elif path.suffix in _SUFFIXES or source.startswith((".", "/", "~")):
        raise InputError(Problem("no such dataset", source, fix="check the path"))
    else:
        rows = _hub(source)
    if test is not None:
        rows = Rows(rows.train, rows.dev, read_file(Path(test)))
    elif rows.dev and not rows.test:
        rows = Rows(rows.train, [], rows.dev)
    if not rows.train:
        raise InputError(Problem("dataset has no rows", source, "0 rows", "training rows"))
    return rows


def read_file(path: Path) -> list[Row]:
    """Rows of one file.

    Raises:
        InputError: missing, unreadable, or of a kind that is not known.
    """
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix)
    if reader is None:
        expected = f"one of {', '.join(_SUFFIXES)}"
        raise InputError(Problem("unknown kind of dataset", str(path), path.suffix, expected))
    try:
        return reader(path)
    except InputError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        problem = Problem("cannot read dataset", str(path), str(error), f"{path.suffix[1:]} rows")
        raise InputError(problem) from error


def _jsonl(path: Path) -> list[Row]:
    rows: list[Row] = []
    problems: list[Problem] = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            row = str(error)
        if isinstance(row, dict):
            rows.append(row)
        else:
            where = f"{path}, line {number}"
            problems.append(Problem("not a JSON object", where, str(row)[:80], "one object a line"))
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


def _folder(path: Path) -> Rows:
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        import datasets

        return _splits(datasets.load_from_disk(str(path)))
    train = _named(path, _TRAIN)
    if train is None:
        expected = "train.jsonl, or a folder saved by datasets"
        raise InputError(Problem("no dataset in the folder", str(path), expected=expected))
    dev, test = _named(path, _DEV), _named(path, _TEST)
    return Rows(read_file(train), read_file(dev) if dev else [], read_file(test) if test else [])


def _named(folder: Path, stems: tuple[str, ...]) -> Path | None:
    paths = (folder / f"{stem}{suffix}" for stem in stems for suffix in _SUFFIXES)
    return next((path for path in paths if path.exists()), None)


def _hub(name: str) -> Rows:
    """``owner/name`` or ``owner/name:config`` from the Hub."""
    import datasets

    dataset, _, config = name.partition(":")
    try:
        return _splits(datasets.load_dataset(dataset, config or None))
    except Exception as error:  # the Hub's errors have no common base
        found = str(error).strip().splitlines()[0][:200] if str(error) else type(error).__name__
        fix = "check the name and the network (HF_HUB_OFFLINE), or download it and give the file"
        raise InputError(Problem("no such file or Hub dataset", name, found, fix=fix)) from error


def _splits(dataset: Any) -> Rows:
    if not hasattr(dataset, "keys"):
        return Rows(list(dataset))

    def first(stems: tuple[str, ...]) -> list[Row]:
        return next((list(dataset[stem]) for stem in stems if stem in dataset), [])

    return Rows(first(_TRAIN), first(_DEV), first(_TEST))
