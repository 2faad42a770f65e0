"""Rows of a dataset: a file, a folder, an id on the Hub, a ``datasets`` object, or a list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mashup.errors import InputError, Problem
from mashup.task.formats import SUFFIXES, Numbered, read_file, unit_of, unreadable

_TRAIN = ("train",)
_DEV = ("dev", "valid", "validation")
_TEST = ("test",)


@dataclass(frozen=True)
class Source:
    """Where the rows of one split are from.

    Attributes:
        name: of the file, or what else messages call it.
        unit: what the numbers of the rows count, ``line`` or ``row``.
        read: gives the numbered rows, from the first.
        labels: columns whose numbers stand for names (``datasets.ClassLabel``).
    """

    name: str
    unit: str
    read: Callable[[], Iterator[Numbered]]
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)

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
    """Find a dataset, with its own dev and test splits when it has them.

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
    return Source(str(path), unit_of(path), lambda: read_file(path))


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
        raise unreadable(path, error, "a folder saved by datasets") from error


def _named(folder: Path, stems: tuple[str, ...]) -> Path | None:
    paths = (folder / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES)
    return next((path for path in paths if path.exists()), None)


def _hub(name: str) -> Rows:
    """``owner/name`` or ``owner/name:config`` from the Hub."""
    import datasets

    dataset, _, config = name.partition(":")
    try:
        return _splits(datasets.load_dataset(dataset, config or None), name)
    except Exception as error:  # the Hub's errors have no common base
        found = str(error).strip().splitlines()[0][:200] if str(error) else type(error).__name__
        fix = "check the name and the network (HF_HUB_OFFLINE), or download it and give the file"
        raise InputError(Problem("no such file or Hub dataset", name, found, fix=fix)) from error


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
