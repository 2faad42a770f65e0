"""Settings from YAML and flags: what cannot be read or cannot be is told, all at once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mashup.errors import Problem, UsageError

_LONGEST = 200  # characters of a value that cannot be

#: Where a setting is: names, keys of mappings and numbers in lists, from the outside in.
Place = tuple[Any, ...]
T = TypeVar("T", bound=BaseModel)


def read_yaml(path: Path) -> dict[Any, Any]:
    """Names and values of a YAML file.

    Raises:
        UsageError: unreadable, no YAML, or something else than names and values.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        # A ValueError is text that is not UTF-8, or a date that no calendar has.
        raise UsageError(Problem("cannot read config", str(path), str(error))) from error
    if not isinstance(values, dict):
        found, expected = repr(values)[:_LONGEST], "names and values, as in 'seed: 42'"
        raise UsageError(Problem("cannot read config", str(path), found, expected))
    return values


def dotted(place: Place) -> str:
    """``train.lora_r``, as a place is called in YAML."""
    return ".".join(map(str, place))


def validated(
    model: type[T],
    values: Mapping[Any, Any],
    where: str,
    *,
    spelled: Callable[[Place], str] = dotted,
) -> T:
    """A model made of ``values``; all faults at once.

    Args:
        model: whose fields the values are.
        values: by name; parts within it as mappings.
        where: the file, or what else the values are from.
        spelled: what the user calls a place, where it is not called as in YAML.

    Raises:
        UsageError: unknown names (with a suggestion), missing or impossible values.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = _innermost(error.errors())
        problems = [_problem(fault, model, where, spelled) for fault in faults]
        raise UsageError(*problems) from None


def names_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Fields by the names that a user gives them."""
    return {field.alias or key: field for key, field in model.model_fields.items()}


def _innermost(faults: Iterable[Any]) -> list[Any]:
    """Without those of a list or a part whose own fault is that of something in it."""
    faults = list(faults)
    outer = {fault["loc"][:depth] for fault in faults for depth in range(len(fault["loc"]))}
    return [fault for fault in faults if fault["loc"] not in outer]


def _problem(
    fault: Any, model: type[BaseModel], where: str, spelled: Callable[[Place], str]
) -> Problem:
    place, kind = fault["loc"], fault["type"]
    if not place:
        return Problem("bad settings", where, fix=fault["msg"])
    name, called = dotted(place), spelled(place)
    if kind == "extra_forbidden":
        return Problem("unknown setting", where, name, fix=_suggestion(model, place))
    if kind == "missing":
        fix = f"give {called}" if called == name else f"give {called}, or {name} in YAML"
        return Problem("missing setting", where, expected=name, fix=fix)
    found = str(fault["input"])[:_LONGEST]
    return Problem("bad setting", f"{called} ({where})", found, fault["msg"])


def _suggestion(model: type[BaseModel], place: Place) -> str:
    """What may have been meant by a name that is not known."""
    *outer, last = place
    known = sorted(names_of(_part(model, outer)))
    close = difflib.get_close_matches(str(last), known, 1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"


def _part(model: type[BaseModel], place: Iterable[Any]) -> type[BaseModel]:
    """The model at a place within another; keys of mappings and numbers are passed by."""
    for name in place:
        field = names_of(model).get(name)
        model = (_model(field.annotation) if field else None) or model
    return model


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model within an annotation, also as the values of a dictionary."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model, get_args(annotation))), None)
