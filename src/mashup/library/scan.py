"""Scan a folder for checkpoints; a second scan reads only what changed."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import Any

from mashup.checkpoint import Checkpoint
from mashup.checkpoint.identity import named_base, write_names
from mashup.checkpoint.read import describe, with_unique_names
from mashup.errors import InputError, Problem, UsageError
from mashup.files import require_folder
from mashup.library.index import Index
from mashup.library.walk import Found, find
from mashup.progress import SILENT, Progress
from mashup.tables import Shown, as_frame


@dataclass(frozen=True, repr=False)
class Library(Shown):
    """The checkpoints below ``root``: one a run, with the others of each run as ``siblings``.

    Attributes:
        root: the folder. For a source such as ``hub:...``, the folder in which we remember it.
        notes: lines on what was not looked into, and on an index that cannot be kept.
        source: ``hub:...`` and the like; "" for a folder.
        cache_limit: most bytes that weights of the source may take on this machine; None for any.
    """

    root: Path
    checkpoints: tuple[Checkpoint, ...]
    siblings: tuple[Checkpoint, ...] = ()
    notes: tuple[str, ...] = ()
    source: str = ""
    cache_limit: int | None = None

    def place_of(self, checkpoint: Checkpoint) -> str:
        """Its path below the folder; of a source its name, which no other has."""
        if self.source:
            return checkpoint.name
        return str(checkpoint.path.relative_to(self.root))

    def to_pandas(self) -> Any:
        """A ``DataFrame`` with a row for each checkpoint."""
        return as_frame([{**row, "path": str(row["path"])} for row in self._shown()])

    @property
    def _title(self) -> str:
        broken = f", {len(self.problems)} with a problem" if self.problems else ""
        return f"Library {self.source or self.root}: {len(self.checkpoints)} checkpoints{broken}"

    def _shown(self) -> list[dict[str, Any]]:
        return [
            {
                "name": one.name,
                "kind": one.kind,
                "base": one.base,
                "rank": one.rank,
                "task": one.task,
                "metric": one.metric and one.metric[0],
                "value": one.metric and one.metric[1],
                "problem": one.problem and one.problem.what,
                "path": one.path,
            }
            for one in self.checkpoints
        ]

    @property
    def usable(self) -> tuple[Checkpoint, ...]:
        """Checkpoints without a problem."""
        return tuple(checkpoint for checkpoint in self.checkpoints if checkpoint.usable)

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(c.problem for c in self.checkpoints if c.problem is not None)


def scan(
    root: str | Path,
    *,
    all_checkpoints: bool = False,
    cache_limit: str | int | None = None,
    progress: Progress = SILENT,
) -> Library:
    """Find the checkpoints at or below ``root`` from headers and JSON alone, without torch.

    Args:
        root: folder to search, or a source (``hub:ORG``, ``cache:``, ...;
            :mod:`mashup.library.sources`).
        all_checkpoints: keep every ``checkpoint-N`` of a run, not only its best or last.
        cache_limit: most bytes (or "20GB") that weights of a remote source may take on this
            machine when they are fetched; those that were used longest ago are removed first.
        progress: where to show a bar; a remote source takes a while.

    Raises:
        UsageError: a source of an unknown form.
        InputError: no such folder or source, no checkpoint in it, or a source that refuses.
    """
    from mashup.library.sources import kind_of_source, scan_source

    if kind_of_source(root):
        return scan_source(str(root), all_checkpoints, cache_limit, progress)
    return scan_folder(Path(root), all_checkpoints)


def scan_folder(root: Path, all_checkpoints: bool, memory: Path | None = None) -> Library:
    """:func:`scan` of a folder; its index is in ``memory`` where that is given.

    Raises:
        InputError: as :func:`scan`.
    """
    require_folder(root)
    walk = find(root)
    if not walk.found:
        raise InputError(_nothing(root, walk.notes))
    with Index(memory or root) as index:
        checkpoints = with_unique_names(_read_or_remember(root, walk.found, index))
        notes = (*walk.notes, *([str(index.problem)] if index.problem else []))
    return make_library(memory or root, checkpoints, notes, all_checkpoints)


def make_library(
    root: Path, checkpoints: Sequence[Checkpoint], notes: tuple[str, ...], all_checkpoints: bool
) -> Library:
    """A library of checkpoints with names of their own, one a run or all of them."""
    if all_checkpoints:
        return Library(root, tuple(checkpoints), notes=notes)
    return Library(root, *keep_one_per_run(checkpoints), notes)


def _read_or_remember(root: Path, found: list[Found], index: Index) -> Iterator[Checkpoint]:
    """Paths in the index are relative to the library, so that it can be moved or mounted."""
    known, start = index.checkpoints(), len(os.path.join(root, ""))
    changed: dict[str, tuple[str, str]] = {}
    for one in found:
        relative = (str(one.path)[start:] if root.parts else str(one.path)) or "."
        stamp, record = known.pop(relative, ("", ""))
        is_known = one.stamp and stamp == one.stamp
        checkpoint = load_record(record, one.path) if is_known else None
        if checkpoint is None:
            checkpoint = _read(one.path)
            if one.stamp and checkpoint.problem is None:
                # a broken one is read again: its cause may be elsewhere
                changed[relative] = (one.stamp, dump_record(checkpoint))
        yield checkpoint if checkpoint.base else replace(checkpoint, base=named_base(one.path))
    if changed or known:
        index.replace_checkpoints(changed, known)


def _read(folder: Path) -> Checkpoint:
    """The checkpoint that was found in ``folder``, also when it has gone away since."""
    try:
        return describe(folder)
    except InputError as error:
        return Checkpoint(folder, "lora", problem=error.problems[0])


def _nothing(root: Path, notes: tuple[str, ...]) -> Problem:
    return Problem(
        "no checkpoint in the folder",
        str(root),
        "; ".join(("neither a PEFT adapter nor a model in it or below it", *notes)),
        "folders with adapter_config.json and adapter_model.safetensors",
        "point at the folder that your trainer wrote its runs to",
    )


def keep_one_per_run(
    checkpoints: Iterable[Checkpoint],
) -> tuple[tuple[Checkpoint, ...], tuple[Checkpoint, ...]]:
    """Split into those kept (one a run and kind) and their siblings, both sorted by path.

    Broken siblings are never hidden behind a good one's back: they stay in the first
    group, so that their problem is seen, but a usable sibling is kept with them.
    """
    kept: list[Checkpoint] = []
    hidden: list[Checkpoint] = []
    ordered = sorted(checkpoints, key=_run_order)
    for _, group in groupby(ordered, key=lambda c: (c.run, c.kind)):
        siblings = list(group)
        chosen = _choose(siblings)
        for sibling in siblings:
            keep = sibling is chosen or sibling.problem is not None
            (kept if keep else hidden).append(sibling)
    return tuple(sorted(kept, key=_path)), tuple(sorted(hidden, key=_path))


def _run_order(checkpoint: Checkpoint) -> tuple[tuple[str, ...], str, float]:
    step = checkpoint.step
    return checkpoint.run.parts, checkpoint.kind, float("inf") if step is None else step


def _path(checkpoint: Checkpoint) -> tuple[str, ...]:
    return checkpoint.path.parts


def _choose(siblings: list[Checkpoint]) -> Checkpoint:
    """The last state that names a best step decides; without one, the last sibling."""
    healthy = [sibling for sibling in siblings if sibling.problem is None] or siblings
    steps = [s.best_step for s in siblings if s.best_step is not None]
    best = [sibling for sibling in healthy if steps and sibling.step == steps[-1]]
    return best[0] if best else healthy[-1]


def to_record(checkpoint: Checkpoint) -> dict[str, Any]:
    """JSON-able fields of a checkpoint, with its name and state."""
    record = asdict(checkpoint) | {"path": str(checkpoint.path)}
    return record | {"name": checkpoint.name, "state": checkpoint.state}


def dump_record(checkpoint: Checkpoint) -> str:
    return json.dumps(to_record(checkpoint))


def load_record(text: str, folder: Path) -> Checkpoint | None:
    """The checkpoint in ``folder`` by its record; None for a text that is none of this version."""
    try:
        record = json.loads(text)
        del record["name"], record["state"]
        record["path"] = folder
        record["targets"] = tuple(record["targets"])
        record["unmatched"] = tuple(record["unmatched"])
        record["metric"] = tuple(record["metric"]) if record["metric"] else None
        record["problem"] = Problem(**record["problem"]) if record["problem"] else None
        checkpoint = Checkpoint(**record)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return checkpoint if _is_sound(checkpoint) else None


def _is_sound(one: Checkpoint) -> bool:
    metric = one.metric or ("", 0.0)
    texts = (one.base, one.task, *one.targets, *one.unmatched, metric[0])
    counts = (one.modules, one.bytes, one.rank or 0, one.best_step or 0)
    return (
        one.kind in ("lora", "full")
        and all(isinstance(text, str) for text in texts)
        and all(isinstance(count, int) for count in counts)
        and len(metric) == 2
        and isinstance(metric[1], int | float)
    )


def name_bases(root: Path, checkpoints: Sequence[Checkpoint], given: Sequence[str]) -> None:
    """Remember ``ID:MODEL`` pairs in the library; IDs are names or patterns with ``*``.

    Raises:
        UsageError: not such a pair, no checkpoint of that name, or one that names its base; a
            checkpoint outside of the library's folder, as in the cache of the Hub.
    """
    checkpoints = [c for c in checkpoints if c.path.is_relative_to(root)]
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
        return [
            Problem(
                "bad setting", "name of a base", pair, "ID:MODEL, say run-7:google/gemma-3-1b-it"
            )
        ]
    if not matched:
        ends = [c.name for c in checkpoints if c.name.endswith(f"/{wanted}")]
        if len(ends) > 1:
            found, fix = ", ".join(ends[:5]), "give one of these names, or a pattern for all"
            where, expected = f"name of a base, {pair}", "a name of one"
            return [Problem("name of several checkpoints", where, found, expected, fix)]
        close = difflib.get_close_matches(wanted, [c.name for c in checkpoints], 1)
        fix = f"did you mean {close[0]}?" if close else "see the names with 'mashup scan'"
        return [Problem("no such checkpoint", "name of a base", wanted, fix=fix)]
    named = [c for c in matched if c.base and c.base != base]
    if named and len(named) == len(matched):
        fix = "pass `accept_base` where it is used, if what it says is wrong"
        return [Problem("base is named already", str(named[0].path), named[0].base, base, fix)]
    return []
