"""``mashup.verify``: does a folder hold what it says?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mashup._report.material import RECORDS, is_comparison
from mashup._verify.checks import Verification
from mashup.checkpoint.history import MANIFEST, read_manifest
from mashup.errors import InputError, Problem
from mashup.files import require_folder
from mashup.library.sources import folder_of
from mashup.progress import SILENT, Progress


def verify(
    folder: str | Path,
    *,
    sources: str | Path | Sequence[str | Path] = (),
    base: Any = None,
    task: Any = None,
    tolerance: float = 0.0,
    device: str = "auto",
    progress: Progress = SILENT,
) -> Verification:
    """Check a merge against its sources, or a report against its records.

    A merge is made again from ``mashup.json`` and the sources, in a temporary folder that goes
    away, and compared to the byte. So is every merge among its sources, also behind a trained
    run. With ``task`` the sample of an init is scored again. Of an experiment or a comparison,
    every file of the report and every derived record is made again from ``records.jsonl``.

    Args:
        folder: of ``merge``, ``init``, ``compare`` or ``loo``.
        sources: folders in which sources are looked for by their content, where they have moved,
            or single checkpoints of the Hub.
        base: the base model, as :func:`mashup.load_base` takes it, where it has moved.
        task: the data of an init, as :func:`mashup.load_task` takes it, or a loaded task.
        tolerance: relative difference of weights that still agrees: another machine may round
            otherwise. 0 asks for the same bytes.
        device: to score the sample on.
        progress: where to show a bar.

    Returns:
        Every check, and the problems of those that do not agree.

    Raises:
        InputError: no such folder, one that none of these commands made, or a damaged manifest.
    """
    path = Path(folder)
    require_folder(path)
    if is_comparison(path) or (path / RECORDS).exists():
        from mashup._verify.report import verify_report

        return Verification(path, tuple(verify_report(path)))
    if read_manifest(path).get("kind") != "init" and (path / MANIFEST).exists():
        fix = "give the folder of a merge; runs are trained again by the command in their README.md"
        raise InputError(_nothing(path, "the folder of a trained run", fix))
    if not (path / MANIFEST).exists():
        fix = "give a folder that mashup merge, init, compare or loo wrote"
        raise InputError(_nothing(path, f"neither {MANIFEST} nor {RECORDS}", fix))
    from mashup._verify.merge import Asked, verify_merge
    from mashup.task import Task, load_task

    places = [sources] if isinstance(sources, str | Path) else sources
    folders = tuple(map(folder_of, places))
    for place in folders:
        require_folder(place)
    loaded = task if task is None or isinstance(task, Task) else load_task(task)
    asked = Asked(folders, base, loaded, tolerance, device, progress)
    return Verification(path, tuple(verify_merge(path, asked)))


def _nothing(path: Path, found: str, fix: str) -> Problem:
    expected = "a merge, a comparison or an experiment"
    return Problem("nothing to verify", str(path), found, expected, fix)
