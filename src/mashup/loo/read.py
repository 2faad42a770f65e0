"""Read an experiment from YAML; paths are beside the file, and a file may extend another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mashup.errors import Problem, UsageError
from mashup.faults import read_yaml, validated
from mashup.files import read_state
from mashup.loo.experiment import Experiment

STORE = "store.json"
#: Parts with names of their own.
_PARTS = ("train", "choose", "merge", "executor", "tasks")


def read_experiment(path: str | Path, data: str | Path | None = None) -> Experiment:
    """The experiment that a YAML file describes; paths in it are relative to the file.

    ``extends: other.yaml`` takes what the other file says where this one says nothing.

    Args:
        path: the YAML file.
        data: folder that the paths of tasks are relative to, instead of the file's.

    Raises:
        UsageError: unreadable, unknown names, values that are missing or cannot be; no such
            folder of data.
    """
    if data and not Path(data).is_dir():
        fix = "give the folder that holds the tasks of the experiment"
        raise UsageError(Problem("no such folder", str(data), expected="a folder", fix=fix))
    return validated(Experiment, _read(Path(path), Path(data) if data else None), str(path))


class _Place(BaseModel):
    """Where the jobs of an experiment are."""

    jobs: str


def known_jobs(output: Path) -> str | None:
    """Folder of the jobs of an experiment that was begun in ``output``, None without one.

    Raises:
        InputError: the file that says it is damaged.
    """
    path = output / STORE
    fix = "remove it, and give --jobs where the jobs are not beside it"
    return read_state(_Place, path, fix).jobs if path.exists() else None


def _read(where: Path, data: Path | None, below: tuple[Path, ...] = ()) -> dict[Any, Any]:
    """Values of a file and of those that it extends."""
    values = read_yaml(where)
    other = values.pop("extends", None)
    values = _located(values, where.absolute().parent, data)
    if other is None:
        return values
    above = where.parent / str(other)
    if above.resolve() in (*below, where.resolve()):
        found, expected = f"extends {other}", "a file that does not lead back to this one"
        raise UsageError(Problem("cannot read config", str(where), found, expected))
    return _over(_read(above, data, (*below, where.resolve())), values)


def _over(lower: dict[Any, Any], upper: dict[Any, Any]) -> dict[Any, Any]:
    """``upper`` laid over ``lower``; parts with names of their own name by name."""
    made = dict(lower)
    for name, value in upper.items():
        both = name in _PARTS and isinstance(value, dict) and isinstance(made.get(name), dict)
        made[name] = made[name] | value if both else value
    return made


def _located(values: dict[Any, Any], beside: Path, data: Path | None) -> dict[Any, Any]:
    """Paths that exist beside the file, absolute; everything else as it is (Hub ids)."""
    values = dict(values)
    for name in ("base", "library"):
        if name in values:
            values[name] = _path(values[name], beside)
    if isinstance(values.get("tasks"), dict):
        where = data or beside
        values["tasks"] = {name: _task(one, where) for name, one in values["tasks"].items()}
    return values


def _task(data: Any, beside: Path) -> Any:
    if isinstance(data, str):
        data = {"dataset": data}
    if not isinstance(data, dict):
        return data
    named = {key: _path(data[key], beside) for key in ("dataset", "test_dataset") if key in data}
    return data | named


def _path(value: Any, beside: Path) -> Any:
    if isinstance(value, str) and (beside / value).exists():
        return str((beside / value).resolve())
    return value
