"""Settings from YAML and flags: what cannot be read or cannot be is told, all at once."""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from mashup.errors import Problem, UsageError

_LONGEST = 200  # characters of a value that cannot be

#: Where a setting is: names of parts, keys of mappings and numbers in lists, from the outside in.
Path_ = Sequence[Any]
T = TypeVar("T", bound=BaseModel)


def read_yaml(path: Path) -> dict[str, Any]:
    """Names and values of a YAML file.

    Raises:
        UsageError: unreadable, no YAML, or something else than names and values.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        # ValueError: what is not UTF-8, and dates that no calendar has
        raise UsageError(Problem("cannot read config", str(path), str(error))) from error
    if not isinstance(values, dict):
        found, expected = repr(values)[:_LONGEST], "names and values: seed: 42"
        raise UsageError(Problem("cannot read config", str(path), found, expected))
    return values
