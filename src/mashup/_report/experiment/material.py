"""What the report of an experiment is made of: its records, and what its file said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from mashup.errors import InputError, Problem, raise_all
from mashup.files import read_state
from mashup.results.records import Record, read_records

RECORDS, ABOUT = "records.jsonl", "experiment.json"


class About(BaseModel, extra="allow"):
    """``experiment.json``: what of it is shown."""

    version: Literal[1] = 1
    base: str = ""
    note: str | None = ""
    choose: dict[str, Any] = {}
    merge: dict[str, Any] = {}
    train: dict[str, Any] = {}
    tasks: dict[str, Any] = {}
    learning_rates: list[float] = []
    train_rows: int | None = None
    dev_rows: int | None = None
    test_rows: int | None = None


@dataclass(frozen=True)
class Folder:
    """One experiment on disk.

    Attributes:
        records: ``records.jsonl``; never empty.
        about: ``experiment.json``, empty where it is not there.
    """

    path: Path
    records: tuple[Record, ...]
    about: dict[str, Any]


def read_folders(paths: Sequence[Path]) -> tuple[Folder, ...]:
    """Read every folder.

    Raises:
        InputError: folders without records, or with ones that cannot be read; all at once.
    """
    problems: list[Problem] = []
    folders = []
    for path in paths:
        try:
            folders.append(_read(path))
        except InputError as error:
            problems += error.problems
    raise_all(problems)
    return tuple(folders)


def _read(path: Path) -> Folder:
    records = read_records(path / RECORDS)
    if not records:
        fix = "run 'mashup loo' on until a first target is done"
        raise InputError(Problem("no records yet", str(path / RECORDS), "an empty file", fix=fix))
    fix = "remove it, or give the same 'mashup loo' again, which writes it anew"
    known = read_state(About, path / ABOUT, fix) if (path / ABOUT).exists() else About()
    return Folder(path, records, known.model_dump(exclude_unset=True))
