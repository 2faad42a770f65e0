"""State files: JSON and JSONL that this package wrote, with a version, checked as they are read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from mashup.errors import InputError, Problem
from mashup.strict import read_plain

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
#: Version of the formats of files that this package writes; docs/stability.md lists them.
VERSION = 1
#: Code of the problem of a file that a later version of this package wrote.
NEWER = "file.newer"


def read_state(kind: type[T], path: Path, fix: str) -> T:
    """The content of a JSON file that this package wrote, checked against its type.

    A file without ``version`` is read as version 1.

    Args:
        kind: a pydantic model, or any type that pydantic can check.
        path: the file.
        fix: what the user can do about a damaged file.

    Raises:
        InputError: missing, unreadable, damaged, or of a newer version.
    """
    with _damage(path, fix):
        return _checker(kind)(read_plain(path))


def read_lines(kind: type[T], path: Path, fix: str, *, may_be_cut: bool = False) -> tuple[T, ...]:
    """The lines of a JSONL file that this package wrote, each checked as by :func:`read_state`.

    Args:
        kind, path, fix: as for :func:`read_state`.
        may_be_cut: drop a last line without a line end, which a killed process may leave.

    Raises:
        InputError: as :func:`read_state`.
    """
    with _damage(path, fix):
        *lines, rest = read_plain(path).split(b"\n")
        lines = lines if may_be_cut or not rest else [*lines, rest]
        for first in lines[:1]:
            _checker(_FirstLine)(first)
        return tuple(map(_checker(kind), lines))


@dataclass(frozen=True)
class _FirstLine:
    """What the first line of a JSONL file holds besides its values."""

    version: Literal[1] = 1


def to_lines(rows: Iterable[Mapping[str, Any]], *, is_start: bool = True) -> str:
    """JSONL text: one object a line. The first line of a file has the version of the format.

    Args:
        rows: JSON-able.
        is_start: whether the first of them is the first line of the file.
    """
    first = {"version": VERSION} if is_start else {}
    lines = [(first if place == 0 else {}) | dict(row) for place, row in enumerate(rows)]
    return "".join(json.dumps(line) + "\n" for line in lines)


def _checker(kind: Any) -> Callable[[bytes], Any]:
    check = _adapter(kind).validate_json
    return lambda content: check(content, strict=True)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


@contextlib.contextmanager
def _damage(path: Path, fix: str) -> Iterator[None]:
    """Raise one :class:`InputError` for whatever is wrong with the file."""
    from pydantic import ValidationError

    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["loc"] == ("version",):
            what, fix = "file of a newer version", "update mashup"
            newer = Problem(what, str(path), first["msg"], fix=fix, code=NEWER)
            raise InputError(newer) from error
        found = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        raise InputError(Problem("damaged file", str(path), found, fix=fix)) from error
    except FileNotFoundError as error:
        raise InputError(Problem("cannot read file", str(path), "no such file", fix=fix)) from error
    except (OSError, ValueError) as error:
        raise InputError(Problem("damaged file", str(path), str(error), fix=fix)) from error
