"""Rows of a dataset: JSONL, JSON, CSV, Parquet, a folder, or an id on the Hub."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mashup.errors import InputError, Problem
from mashup.task.formats import SUFFIXES, Row, read_file, unreadable

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
    elif path.suffix in SUFFIXES or source.startswith((".", "/", "~")):
        raise InputError(Problem("no such dataset", source, fix="check the path"))
    else:
        rows = _hub(source)
    if test is not None:
        rows = Rows(rows.train, rows.dev, _some(read_file(Path(test)), test, "test rows"))
    elif rows.dev and not rows.test:
        rows = Rows(rows.train, [], rows.dev)
    _some(rows.train, source, "training rows")
    return rows


def _some(rows: list[Row], where: str, expected: str) -> list[Row]:
    if not rows:
        fix = "give a dataset with rows"
        raise InputError(Problem("dataset has no rows", where, "0 rows", expected, fix))
    return rows


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
    return Rows(read_file(train), read_file(dev) if dev else [], read_file(test) if test else [])


def _saved(path: Path) -> Rows:
    import datasets

    try:
        return _splits(datasets.load_from_disk(str(path)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable(path, error, "a folder saved by datasets") from error


def _named(folder: Path, stems: tuple[str, ...]) -> Path | None:
    paths = (folder / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES)
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
