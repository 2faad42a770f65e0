"""What a verification found, as values; files of two folders compared."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mashup.checkpoint.safetensors import Stored, read_stored, same_bytes
from mashup.errors import Problem
from mashup.files import digest_file, size
from mashup.tables import Shown, as_frame

DIFFERS = "file differs from what is made again"
_AROUND = 60  # characters shown on either side of the first difference
_IMAGE = ".png"  # painted by matplotlib, whose versions differ in single pixels
#: Endings of files that a loader of models may read.
_READ = (".safetensors", ".bin", ".pt", ".pth", ".py", ".json", ".jinja", ".model")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        what: ``weights``, ``source``, ``sample``, ...
        where: the file, the source or the setting.
        found: what was seen, in a few words.
        problem: why it does not agree; None where it does, or where it was not checked.
        is_checked: False where it was not looked at.
    """

    what: str
    where: str
    found: str = ""
    problem: Problem | None = None
    is_checked: bool = True

    @property
    def state(self) -> Literal["agrees", "differs", "not checked"]:
        """The result in a word."""
        if self.problem is not None:
            return "differs"
        return "agrees" if self.is_checked else "not checked"

    def to_json(self) -> dict[str, Any]:
        problem = self.problem.to_json() if self.problem else None
        return asdict(self) | {"problem": problem, "state": self.state}


@dataclass(frozen=True, repr=False)
class Verification(Shown):
    """What :func:`mashup.verify` found.

    Attributes:
        path: the folder.
        checks: everything that was looked at, in order.
    """

    path: Path
    checks: tuple[Check, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that does not agree; empty if all does."""
        return tuple(check.problem for check in self.checks if check.problem)

    @property
    def agrees(self) -> bool:
        """Whether all that was checked agrees."""
        return not self.problems

    @property
    def sentence(self) -> str:
        """The result in one line."""
        counts = dict.fromkeys(("agrees", "differs", "not checked"), 0)
        for check in self.checks:
            counts[check.state] += 1
        left = f", {counts['not checked']} not checked" if counts["not checked"] else ""
        if self.agrees:
            return f"verified: {counts['agrees']} checks agree{left}"
        return f"not verified: {counts['differs']} differ, {counts['agrees']} agree{left}"

    def to_pandas(self) -> Any:
        """A ``DataFrame`` with a row for each check."""
        return as_frame(self._shown())

    @property
    def _title(self) -> str:
        return f"{self.path}: {self.sentence}"

    def _shown(self) -> list[dict[str, Any]]:
        names = ("what", "where", "state", "found")
        return [{name: getattr(check, name) for name in names} for check in self.checks]


def compared_files(
    kept: Path,
    made: Path,
    skipped: frozenset[str],
    fix: str,
    within: Sequence[str] = (".",),
) -> Iterator[Check]:
    """Every file of ``made`` against that of the same name in ``kept``, and what else is there.

    Args:
        kept: the folder that is verified.
        made: the same, made again.
        skipped: names of files that are compared elsewhere or not at all.
        fix: what a user does about a file that differs.
        within: folders in ``kept`` in which nothing else should be.
    """
    again = _files(made, ".")
    there = set().union(*(_files(kept, name) for name in within))
    for name in sorted(again - skipped):
        problem = _file_problem(kept / name, made / name, fix)
        image = problem and name.endswith(_IMAGE) and (kept / name).exists()
        if image and _same(kept / name, made / name, ".svg"):
            yield Check("file", name, "other pixels; its SVG is the same", is_checked=False)
        else:
            yield Check("file", name, "the same bytes" if not problem else "differs", problem)
    for name in sorted(there - again - skipped):
        found = "not of what is verified"
        if name.endswith(_READ):
            problem = Problem("file that does not belong here", str(kept / name), found, fix=fix)
            yield Check("file", name, found, problem)
        else:
            yield Check("file", name, found, is_checked=False)


def _files(folder: Path, within: str) -> set[str]:
    """Files below ``folder/within``, by their paths from ``folder``; without hidden ones."""
    found = (path for path in (folder / within).rglob("*") if path.is_file())
    names = (path.relative_to(folder) for path in found)
    return {str(name) for name in names if not any(part.startswith(".") for part in name.parts)}


def _same(kept: Path, made: Path, suffix: str) -> bool:
    one, other = kept.with_suffix(suffix), made.with_suffix(suffix)
    return one.is_file() and other.is_file() and digest_file(one) == digest_file(other)


def _file_problem(kept: Path, made: Path, fix: str) -> Problem | None:
    if not kept.is_file():
        return Problem("file is missing", str(kept), fix=fix)
    if digest_file(kept) == digest_file(made):
        return None
    found, expected = size(kept.stat().st_size), size(made.stat().st_size)
    with contextlib.suppress(UnicodeDecodeError):  # not text: its size is said
        found, expected = first_difference(kept.read_text("utf-8"), made.read_text("utf-8"))
    return Problem(DIFFERS, str(kept), found, expected, fix)


def first_difference(kept: str, made: str) -> tuple[str, str]:
    """Both texts around the first character that differs."""
    pairs = enumerate(zip(kept, made, strict=False))
    place = next((n for n, (a, b) in pairs if a != b), min(len(kept), len(made)))
    line = kept.count("\n", 0, place) + 1
    start, stop = max(0, place - _AROUND), place + _AROUND
    return f"line {line}: {kept[start:stop]!r}", repr(made[start:stop])


def number_problems(
    noted: Mapping[str, Any], made: Mapping[str, Any], where: str, slack: float
) -> list[Problem]:
    """Values of ``made`` that ``noted`` does not have.

    Args:
        noted: what the folder says.
        made: what was found again.
        where: the file of ``noted``.
        slack: by how much two numbers may differ: absolute, or relative above 1.
    """
    fix = "the folder was changed, or made by another version or on another machine"
    return [
        Problem("number differs", f"{where}, {name}", str(noted.get(name)), str(value), fix)
        for name, value in made.items()
        if not _equal(noted.get(name), value, slack)
    ]


def _equal(one: Any, other: Any, slack: float) -> bool:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (one, other))
    return math.isclose(one, other, rel_tol=slack, abs_tol=slack) if numbers else one == other


def stored_in(folder: Path) -> dict[str, Stored]:
    """All tensors in the safetensors files of a folder, by name."""
    found: dict[str, Stored] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= read_stored(path)
    return found


def differing(kept: Mapping[str, Stored], made: Mapping[str, Stored]) -> list[str]:
    """Names of tensors that are in one of them only, or that have other types, shapes or bytes."""
    both = kept.keys() & made.keys()
    other = [name for name in both if not _same_tensor(kept[name], made[name])]
    return sorted([*(kept.keys() ^ made.keys()), *other])


def _same_tensor(one: Stored, other: Stored) -> bool:
    return (one.dtype, one.shape) == (other.dtype, other.shape) and same_bytes(one, other)
