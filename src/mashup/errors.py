"""What can go wrong, as values: every error says what, where, found, expected and fix.

All problems of a call are collected and raised together, so that a user mends
them in one go. The command line shows them as one table and never a traceback.

Texts name a setting by its Python name between backticks, as in ```accept_base```. The command
line prints it as a flag (:func:`with_flags`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

_LONGEST = 2000  # characters of a field of a problem
_FLAGS = {"base": "model"}  # Python names whose flags differ
_FIRST = 3  # places that are named of problems that are otherwise the same


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one input.

    Attributes:
        what: the fault in a few words ("truncated safetensors").
        where: the file, folder, row or setting that has it.
        found: what was seen there.
        expected: what should have been there.
        fix: what the user can do next.
        code: a short name for programs that does not change with the wording
            ("base.missing"); by default made from ``what``.
    """

    what: str
    where: str
    found: str = ""
    expected: str = ""
    fix: str = ""
    code: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _shown(getattr(self, field.name)))
        if not self.code:
            slug = re.sub(r"[^a-z0-9]+", "-", self.what.lower()).strip("-")
            object.__setattr__(self, "code", slug)

    def __str__(self) -> str:
        lines = [f"{self.what}: {self.where}"]
        details = (("found", self.found), ("expected", self.expected), ("fix", self.fix))
        lines += [f"  {name}: {text}" for name, text in details if text]
        return "\n".join(lines)

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def _shown(text: str) -> str:
    """Text of a file that is not ours, as a problem holds it: printable, and not too long."""
    return printable(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ...")


def printable(text: str) -> str:
    """``text`` without anything that a terminal obeys: control codes become ``\\x1b``.

    Names of folders and texts of files come from anyone. Line ends and spaces stay.
    """
    if text.isprintable():
        return text
    return "".join(_escaped(c) if _is_control(c) else c for c in text)


def _escaped(character: str) -> str:
    """``\\xe9`` for a byte of a file name that is not UTF-8: a lone surrogate (PEP 383)."""
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(character)[1:-1]


def _is_control(character: str) -> bool:
    """Control, format, half a pair, unassigned, or a separator of lines."""
    kind = unicodedata.category(character)
    return character != "\n" and (kind[0] == "C" or kind in ("Zl", "Zp"))


def with_flags(text: str) -> str:
    """```accept_base``` as ``--accept-base``, and ```base``` as ``--model``."""

    def flag(name: re.Match[str]) -> str:
        return "--" + _FLAGS.get(name[1], name[1]).replace("_", "-")

    return re.sub(r"`([a-z][a-z0-9_]*)`", flag, text)


def grouped(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Problems for display: those that differ only in ``where`` become one with the count.

    The first three places are named. The order is that of the first of each group.
    """
    groups: dict[Problem, list[str]] = {}
    for problem in problems:
        groups.setdefault(replace(problem, where=""), []).append(problem.where)
    return tuple(_together(problem, places) for problem, places in groups.items())


def _together(problem: Problem, places: list[str]) -> Problem:
    named = list(dict.fromkeys(places))[:_FIRST]
    if len(places) == 1:
        return replace(problem, where=named[0])
    rest = len(places) - len(named)
    where = ", ".join(named) + (f" and {rest:,} more" if rest else "")
    return replace(problem, what=f"{problem.what} ({len(places):,} times)", where=where)


class MashupError(Exception):
    """Base of all errors that this package raises on purpose.

    Attributes:
        problems: every problem that was found, in the order of the inputs; the text of the
            error shows those that are alike as one.
        exit_code: what the command line returns for it.
    """

    exit_code = 1

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, grouped(problems))))


class UsageError(MashupError, ValueError):
    """A flag or a setting that cannot be (exit code 2)."""

    exit_code = 2


class InputError(MashupError, ValueError):
    """Bad or incompatible input; nothing was written (exit code 3)."""

    exit_code = 3


class DivergedError(InputError):
    """A training run whose loss is no longer a number; nothing was kept of it.

    Attributes:
        seconds: spent on its training steps.
    """

    def __init__(self, *problems: Problem, seconds: float = 0.0) -> None:
        super().__init__(*problems)
        self.seconds = seconds


class OutputError(MashupError, OSError):
    """The result could not be written; nothing half-written is left (exit code 3)."""

    exit_code = 3


class GateError(MashupError):
    """A quality gate said no under ``--strict`` (exit code 4)."""

    exit_code = 4


def gather(*steps: Callable[[], Any]) -> list[Any]:
    """What each step returns; the problems of all steps that fail are raised together.

    Raises:
        MashupError: of the kind of the first step that failed.
    """
    results: list[Any] = []
    errors: list[MashupError] = []
    for step in steps:
        try:
            results.append(step())
        except MashupError as error:
            errors.append(error)
    if errors:
        raise type(errors[0])(*(problem for error in errors for problem in error.problems))
    return results


def raise_all(problems: Iterable[Problem | None]) -> None:
    """Raise one :class:`InputError` with all ``problems``; return when there are none."""
    found = tuple(problem for problem in problems if problem)
    if found:
        raise InputError(*found)
