"""Read an experiment from YAML; all faults at once, with suggestions for misspelt names."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from mashup.errors import Problem, UsageError
from mashup.loo.experiment import Experiment

_PARTS = ("train", "choose", "merge", "executor", "tasks")


def read_experiment(path: str | Path) -> Experiment:
    """The experiment that a YAML file describes; paths in it are relative to the file.

    ``extends: other.yaml`` takes what the other file says where this one says nothing.

    Raises:
        UsageError: unreadable, unknown names, values that are missing or cannot be.
    """
    where = Path(path)
    try:
        return Experiment(**_read(where))
    except ValidationError as error:
        faults = _innermost(error.errors())
        raise UsageError(*(_problem(fault, str(where)) for fault in faults)) from None


def _read(where: Path, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Values of a file and of those that it extends."""
    try:
        values = yaml.safe_load(where.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(Problem("cannot read experiment", str(where), str(error))) from error
    if not isinstance(values, dict):
        expected = "names and values: base, tasks, learning_rates, ..."
        raise UsageError(Problem("cannot read experiment", str(where), repr(values), expected))
    other = values.pop("extends", None)
    values = _located(values, where.absolute().parent)
    if other is None:
        return values
    above = where.parent / str(other)
    if above.resolve() in (*below, where.resolve()):
        found, expected = f"extends {other}", "a file that does not lead back to this one"
        raise UsageError(Problem("cannot read experiment", str(where), found, expected))
    return _over(_read(above, (*below, where.resolve())), values)


def _over(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """``upper`` laid over ``lower``; parts with names of their own name by name."""
    made = dict(lower)
    for name, value in upper.items():
        both = name in _PARTS and isinstance(value, dict) and isinstance(made.get(name), dict)
        made[name] = made[name] | value if both else value
    return made


def _innermost(faults: list[Any]) -> list[Any]:
    """Without those of a list or a part whose own fault is that of something in it."""
    places = [fault["loc"] for fault in faults]
    return [
        fault
        for fault in faults
        if not any(p != fault["loc"] and p[: len(fault["loc"])] == fault["loc"] for p in places)
    ]


def _located(values: dict[str, Any], beside: Path) -> dict[str, Any]:
    """Paths that exist beside the file, absolute; everything else as it is (Hub ids)."""
    values = dict(values)
    for name in ("base", "library"):
        if name in values:
            values[name] = _path(values[name], beside)
    if isinstance(values.get("tasks"), dict):
        values["tasks"] = {name: _task(data, beside) for name, data in values["tasks"].items()}
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


def _problem(fault: Any, where: str) -> Problem:
    places = [str(part) for part in fault["loc"]]
    name = ".".join(places)
    if fault["type"] == "extra_forbidden":
        known = _known(Experiment, fault["loc"][:-1])
        close = difflib.get_close_matches(places[-1], known, 1)
        fix = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"
        return Problem("unknown setting", where, name, fix=fix)
    if fault["type"] == "missing":
        return Problem("missing setting", where, expected=name, fix=f"give {name}")
    if not places:
        return Problem("bad experiment", where, fix=fault["msg"])
    return Problem("bad setting", f"{name} ({where})", str(fault["input"])[:200], fault["msg"])


def _known(model: type[BaseModel], path: Iterable[Any]) -> list[str]:
    """Names that a part of an experiment has."""
    for name in path:
        field = model.model_fields.get(name) if isinstance(name, str) else None
        inner = _model(field.annotation) if field else model
        model = inner or model
    return list(model.model_fields)


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model within an annotation, also as the values of a dictionary."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (dict, tuple, Union, types.UnionType):
        found = (_model(inner) for inner in get_args(annotation))
        return next((one for one in found if one), None)
    return None
