"""What is scored or merged of the Hub, fetched at its commit into a cache of limited size.

The cache is our own, in the layout of ``huggingface_hub``. What is in the user's cache of the Hub
already is used from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mashup.checkpoint import Checkpoint
from mashup.checkpoint.config import CONFIG
from mashup.checkpoint.read import describe
from mashup.errors import InputError, Problem, UsageError
from mashup.files import digest_file, read_json, size
from mashup.hub import Snapshot, faults, is_unreachable, problem_of, quiet, read_start, snapshot_of
from mashup.library.hub import COMPLETE, NAMES, WORKERS, home, in_parallel, inside, is_safe
from mashup.outputs import disk_errors
from mashup.progress import SILENT, Progress


def fetch(
    checkpoints: Iterable[Checkpoint], *, limit: int | None = None, progress: Progress = SILENT
) -> dict[Path, Problem]:
    """Download the checkpoints that were listed on the Hub and are not on this machine yet.

    Args:
        checkpoints: of any source; those of the Hub alone are looked at.
        limit: most bytes of weights in our cache. What was used longest ago goes first.
        progress: where to show a bar.

    Returns:
        Folder to problem of those that could not be fetched.

    Raises:
        InputError: the Hub cannot be reached, or more is needed than ``limit``; nothing was
            removed then.
    """
    wanted = [one for one in checkpoints if one.usable and one.path.is_relative_to(home())]
    missing = [one for one in wanted if not (one.path / COMPLETE).exists()]
    with disk_errors(home()):
        for one in wanted:
            if one not in missing:
                (one.path / COMPLETE).touch()
    if not missing:
        return {}
    if limit is not None:
        _make_room(wanted, missing, limit, progress)
    problems: dict[Path, Problem] = {}
    total = size(sum(one.bytes for one in missing))
    progress.say(f"downloading {len(missing):,} checkpoints, {total}")
    with quiet(), progress.bar("downloading", len(missing)) as advance:
        _probe(missing[0])
        for one, problem in in_parallel(_download, missing, WORKERS // 2):
            problems |= {one.path: problem} if problem else {}
            advance()
    return problems


def _probe(one: Checkpoint) -> None:
    """Notice in two seconds that the Hub cannot be reached; a download would take 23.

    Raises:
        InputError: so it is.
    """
    at = snapshot_of(one.path)
    try:
        if at:
            read_start(at, inside(at, CONFIG if one.kind == "lora" else "config.json"), 1)
    except faults() as error:
        if is_unreachable(error):
            raise InputError(problem_of(error, str(at))) from error


def _download(one: Checkpoint) -> Problem | None:
    """The problem of a checkpoint that cannot be fetched, None when it is there.

    Raises:
        InputError: the Hub cannot be reached.
        OutputError: the disk is full.
    """
    from huggingface_hub import hf_hub_download

    at = snapshot_of(one.path)
    assert at is not None
    names = [str(name) for name in read_json(one.path / NAMES) if is_safe(str(name))]
    with disk_errors(one.path):
        try:
            for name in sorted(names, key=lambda name: name.endswith(".safetensors")):
                if not (one.path / name).is_file():
                    hf_hub_download(at.repo, inside(at, name), revision=at.commit, cache_dir=home())
        except faults() as error:
            problem = problem_of(error, str(at))
            if is_unreachable(error):
                raise InputError(problem) from error
            return problem
        changed = _changed(one, at, names)
        if changed is None:
            (one.path / COMPLETE).touch()
        return changed


def _changed(one: Checkpoint, at: Snapshot, names: Sequence[str]) -> Problem | None:
    """The problem of files that are not those that were listed; they are removed.

    In the cache a file of git-lfs is called by its SHA-256, as the Hub states it.
    """
    found = ""
    for path in (one.path / name for name in names if name.endswith(".safetensors")):
        digest = path.resolve().name
        if re.fullmatch("[0-9a-f]{64}", digest) and digest_file(path.resolve()) != digest:
            found = f"{path.name} has another SHA-256 than the Hub states"
    now = describe(one.path)
    if not found and now.problem:
        found = f"{now.problem.what}: {now.problem.found}"
    if not found and _shape(now) != _shape(one):
        found = "other weights than its header said when it was listed"
    if not found:
        return None
    _remove_weights(one.path)
    fix = "scan the source again"
    return Problem("changed while it was fetched", str(at), found, "what was listed", fix)


def _shape(one: Checkpoint) -> tuple[Any, ...]:
    return one.kind, one.bytes, one.modules, one.rank, one.targets


# ---------------------------------------------------------------- room on the disk


def _make_room(
    wanted: Sequence[Checkpoint], missing: Sequence[Checkpoint], limit: int, progress: Progress
) -> None:
    """Remove weights, those first that were used longest ago, until ``missing`` fit.

    Raises:
        InputError: those that are wanted alone are more than ``limit``.
    """
    need = sum(one.bytes for one in wanted)
    if need > limit:
        fix = "raise `cache_limit`, or name fewer: a collection, or a search with tags"
        found = f"{len(wanted):,} checkpoints of {size(need)}"
        expected = f"at most {size(limit)}"
        raise InputError(Problem("cache limit is too small", str(home()), found, expected, fix))
    keep = {one.path for one in wanted}
    marks = sorted(home().glob(f"models--*/snapshots/**/{COMPLETE}"), key=_used)
    over = _taken() + sum(one.bytes for one in missing) - limit
    removed = 0
    for mark in marks:
        if over <= 0:
            break
        if mark.parent not in keep:
            freed = _remove_weights(mark.parent)
            over, removed = over - freed, removed + freed
    if removed:
        progress.say(f"removed {size(removed)} of the cache that were used longest ago")


def _used(mark: Path) -> float:
    return mark.stat().st_mtime


def _taken() -> int:
    """Bytes of all files in our cache of the Hub."""
    files = (path for path in home().glob("models--*/blobs/*") if path.is_file())
    return sum(path.stat().st_size for path in files)


def _remove_weights(folder: Path) -> int:
    """Bytes that are free after the weights of a checkpoint were removed; small files stay."""
    (folder / COMPLETE).unlink(missing_ok=True)
    freed = 0
    for path in folder.glob("*.safetensors"):
        real = path.resolve()
        freed += real.stat().st_size if real.exists() else 0
        path.unlink()
        real.unlink(missing_ok=True)
    return freed


def parse_size(text: str | int) -> int:
    """Bytes of ``20GB``, ``500 MB`` or a number; units are powers of 1000, as disks have them.

    Raises:
        UsageError: another text.
    """
    units = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?B?)\s*", str(text).upper())
    unit = match and (match[2] if match[2] in units else f"{match[2]}B")
    if not match or unit not in units or float(match[1]) <= 0:
        raise UsageError(Problem("bad size", "`cache_limit`", str(text), "a size, as 20GB"))
    return int(float(match[1]) * units[unit])
