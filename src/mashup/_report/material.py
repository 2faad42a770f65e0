"""What a report is made of: the files of an experiment or of a comparison, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from mashup.errors import InputError, Problem, raise_all
from mashup.results.comparison import ABOUT as COMPARISON
from mashup.results.comparison import read_about
from mashup.results.records import Record, read_records
from mashup.state import read_state

RECORDS, SCORES, EXPERIMENT = "records.jsonl", "scores.json", "experiment.json"


class _Experiment(BaseModel, extra="allow"):
    """``experiment.json``: the part that is shown."""

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


class _Score(BaseModel, extra="allow"):
    """A row of ``scores.json``: the part that is shown."""

    name: str
    digest: str
    loss: float
    accuracy: float
    difference: float
    standard_error: float | None = None
    form: float | None = None
    knowledge: float | None = None
    knowledge_error: float | None = None


_Scores = Annotated[list[_Score], Field(min_length=1)]


@dataclass(frozen=True)
class Folder:
    """One experiment or comparison on disk.

    Attributes:
        records: ``records.jsonl``; never empty.
        about: ``comparison.json`` or ``experiment.json``, empty if an experiment has none.
        scores: ``scores.json`` of a comparison: best first, the base last. None otherwise.
    """

    path: Path
    records: tuple[Record, ...]
    about: dict[str, Any]
    scores: tuple[dict[str, Any], ...] | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the files that were read."""
        if self.scores is not None:
            return RECORDS, SCORES, COMPARISON
        return (RECORDS, EXPERIMENT) if self.about else (RECORDS,)


def is_comparison(folder: Path) -> bool:
    """Whether a folder is one of ``mashup compare``."""
    return (folder / COMPARISON).exists()


def read_folders(paths: Sequence[Path]) -> tuple[Folder, ...]:
    """Read every folder.

    Raises:
        InputError: folders without records or with damaged files; all problems at once.
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
    if is_comparison(path):
        fix = "give the same `mashup compare` again: finished runs are kept"
        about = read_about(path)
        rows: list[_Score] = read_state(_Scores, path / SCORES, fix)
        return Folder(path, _records(path), about, tuple(row.model_dump() for row in rows))
    records = _records(path)
    fix = "remove it, or give the same `mashup loo` again, which writes it again"
    file = path / EXPERIMENT
    known = read_state(_Experiment, file, fix) if file.exists() else _Experiment()
    return Folder(path, records, known.model_dump(exclude_unset=True))


def _records(path: Path) -> tuple[Record, ...]:
    records = read_records(path / RECORDS)
    if not records:
        raise nothing_yet(path / RECORDS, "an empty file")
    return records


def nothing_yet(where: Path, found: str) -> InputError:
    """What is raised where no target of an experiment can be shown."""
    fix = "continue `mashup loo` until a first target has scratch"
    return InputError(Problem("no records yet", str(where), found, fix=fix))
