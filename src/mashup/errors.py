"""What can go wrong, as values: every error says what, where, found, expected and fix.

All problems of a call are collected and raised together, so that a user mends
them in one go. The command line shows them as one table and never a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

_LONGEST = 2000  # characters of a field of a problem


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one input.

    Attributes:
        what: the fault in a few words ("truncated safetensors").
        where: the file, folder, row or setting that has it.
        found: what was seen there.
        expected: what should have been there.
        fix: what the user can do next.
    """

    what: str
    where: str
    found: str = ""
    expected: str = ""
    fix: str = ""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            object.__setattr__(self, name, _shown(value))

    def __str__(self) -> str:
        lines = [f"{self.what}: {self.where}"]
        details = (("found", self.found), ("expected", self.expected), ("fix", self.fix))
        lines += [f"  {name}: {text}" for name, text in details if text]
        return "\n".join(lines)

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def _shown(text: str) -> str:
    """Text of a file that is not ours, for a terminal: no control characters, not too long."""
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in cut)


class MashupError(Exception):
    """Base of all errors that this package raises on purpose.

    Attributes:
        problems: every problem that was found, in the order of the inputs.
        exit_code: what the command line returns for it.
    """

    exit_code = 1

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


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


def raise_all(problems: Iterable[Problem | None]) -> None:
    """Raise one :class:`InputError` with all ``problems``; return when there are none."""
    found = tuple(problem for problem in problems if problem)
    if found:
        raise InputError(*found)
