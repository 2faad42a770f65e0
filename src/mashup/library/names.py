"""``scan --base ID:MODEL``: name the base of checkpoints that do not say."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from mashup.checkpoint import Checkpoint
from mashup.checkpoint.naming import write_names
from mashup.errors import Problem, UsageError


def name_bases(root: Path, checkpoints: Sequence[Checkpoint], given: Sequence[str]) -> None:
    """Remember ``ID:MODEL`` pairs in the library; IDs are names or patterns with ``*``.

    Raises:
        UsageError: not such a pair, no checkpoint of that name, or one that names its base.
    """
    names: dict[str, str] = {}
    problems: list[Problem] = []
    for pair in given:
        wanted, _, base = pair.partition(":")
        matched = _meant(wanted, checkpoints, root)
        problems += _problems(pair, wanted, base, matched, checkpoints)
        names |= {str(c.path.relative_to(root)): base for c in matched if not c.base}
    if problems:
        raise UsageError(*problems)
    write_names(root, names)


def _meant(wanted: str, checkpoints: Sequence[Checkpoint], root: Path) -> list[Checkpoint]:
    """Those of this name or path; if there are none, those whose paths match it as a pattern."""
    paths = [(c, str(c.path.relative_to(root))) for c in checkpoints]
    exact = [c for c, path in paths if wanted in (c.name, path)]
    return exact or [c for c, path in paths if fnmatchcase(path, wanted)]


def _problems(
    pair: str,
    wanted: str,
    base: str,
    matched: Sequence[Checkpoint],
    checkpoints: Sequence[Checkpoint],
) -> list[Problem]:
    if not base or not wanted:
        return [Problem("bad setting", "--base", pair, "ID:MODEL, say run-7:google/gemma-3-1b-it")]
    if not matched:
        ends = [c.name for c in checkpoints if c.name.endswith(f"/{wanted}")]
        if len(ends) > 1:
            found, fix = ", ".join(ends[:5]), "give one of these names, or a pattern for all"
            where, expected = f"--base {pair}", "a name of one"
            return [Problem("name of several checkpoints", where, found, expected, fix)]
        close = difflib.get_close_matches(wanted, [c.name for c in checkpoints], 1)
        fix = f"did you mean {close[0]}?" if close else "see the names with 'mashup scan'"
        return [Problem("no such checkpoint", "--base", wanted, fix=fix)]
    told = [c for c in matched if c.base and c.base != base]
    if told and len(told) == len(matched):
        fix = "pass `accept_base` where it is used, if what it says is wrong"
        return [Problem("base is named already", str(told[0].path), told[0].base, base, fix)]
    return []
