"""Where checkpoints come from: a folder, the Hub, its cache on this machine, or a tracker.

A source is a text that may stand wherever the folder of a library may: ``hub:...``, ``cache:``,
``mlflow:...`` or ``wandb:...``. Its checkpoints are as those of a folder once :func:`fetched` has
brought their weights here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from mashup.checkpoint.read import with_unique_names
from mashup.errors import InputError, Problem, UsageError
from mashup.files import require_folder, user_cache
from mashup.hub import cache_folder, snapshot_of
from mashup.library import hub, trackers
from mashup.library.compatible import Fitting, fitting
from mashup.library.fetch import fetch, parse_size
from mashup.library.scan import Library, make_library, scan_folder
from mashup.outputs import disk_errors, make_folder
from mashup.progress import SILENT, Progress

KINDS = ("hub", "cache", "mlflow", "wandb")


def kind_of_source(text: str | Path) -> str:
    """``hub``, ``cache``, ... or "" for a folder."""
    kind, colon, _ = str(text).partition(":")
    return kind if colon and kind in KINDS else ""


def check_library(text: str | Path) -> None:
    """Refuse what can be no library, without a request.

    Raises:
        UsageError: not a source that there is.
        InputError: no such folder.
    """
    kind = kind_of_source(text)
    if kind == "hub":
        hub.check_source(str(text))
    elif not kind:
        require_folder(Path(text))


def scan_source(
    text: str, all_checkpoints: bool, cache_limit: str | int | None, progress: Progress
) -> Library:
    """:func:`mashup.scan` of a source.

    Raises:
        UsageError, InputError: as :func:`mashup.scan`.
    """
    limit = None if cache_limit is None else parse_size(cache_limit)
    kind = kind_of_source(text)
    if kind == "cache":
        library = _cache(text, all_checkpoints)
    elif kind in ("mlflow", "wandb"):
        library = _tracked(text, all_checkpoints, progress)
    else:
        found, notes = hub.list_hub(text, progress)
        if not found:
            raise InputError(_nothing(text, notes))
        library = make_library(hub.home(), with_unique_names(found), notes, all_checkpoints)
    return replace(library, source=text, cache_limit=limit)


def _cache(text: str, all_checkpoints: bool) -> Library:
    """What ``huggingface_hub`` keeps on this machine; our index of it is in our own folder."""
    if text != "cache:":
        fix = "give 'cache:' alone; to use a part of it, give its folder"
        raise UsageError(Problem("no such source", text, expected="cache:", fix=fix))
    memory = user_cache() / "sources" / "cache"
    with disk_errors(memory):
        make_folder(memory)
    return scan_folder(cache_folder(), all_checkpoints, memory)


def _tracked(text: str, all_checkpoints: bool, progress: Progress) -> Library:
    """The checkpoints of a tracker's runs, all of which are on this machine then."""
    folder, notes = trackers.bring(text, progress)
    try:
        library = scan_folder(folder, all_checkpoints)
    except InputError as error:
        if error.problems[0].code != "no-checkpoint-in-the-folder":
            raise
        raise InputError(_nothing(text, notes)) from None
    return replace(library, notes=(*library.notes, *notes))


def _nothing(text: str, notes: Iterable[str]) -> Problem:
    found = "; ".join(("nothing with a PEFT adapter or a model", *notes))
    return Problem("no checkpoint in the source", text, found, fix="check the name")


def folder_of(given: str | Path) -> Path:
    """The folder of one checkpoint: as given, or fetched from ``hub:OWNER/NAME@COMMIT/FOLDER``.

    Every command and function that takes a single checkpoint calls this first.

    Args:
        given: a folder, or one checkpoint of the Hub as ``mashup.json`` names it; commit and folder
            may be left out where the repository has one checkpoint.

    Raises:
        UsageError: another source than one repository of the Hub.
        InputError: the Hub has no such checkpoint, or several; it refuses or cannot be reached.
    """
    kind, text = kind_of_source(given), str(given)
    if not kind:
        return Path(given)
    at = hub.single_in(text.removeprefix("hub:")) if kind == "hub" else None
    if at is None:
        expected = "hub:OWNER/NAME or hub:OWNER/NAME@COMMIT/FOLDER"
        raise UsageError(Problem("not one checkpoint", text, "a source of several", expected))
    found, _ = hub.list_hub(f"hub:{at.repo}@{at.commit}".rstrip("@"))
    places = {there.inner: one for one in found if (there := snapshot_of(one.path))}
    one = places.get(at.inner)
    if not at.inner and len(places) == 1:
        one = next(iter(places.values()))
    if one is None:
        names = ", ".join(filter(None, sorted(places)[:5])) or "no checkpoint"
        fix = f"give one of its folders: hub:{at.repo}@{at.commit or 'COMMIT'}/FOLDER"
        raise InputError(Problem("not one checkpoint", text, names, "one", fix))
    if one.problem:
        raise InputError(one.problem)
    if failed := fetch([one]):
        raise InputError(*failed.values())
    return one.path


def fetched(
    library: Library, fit: Fitting, *, strict: bool, progress: Progress = SILENT
) -> Fitting:
    """What fits, with its weights on this machine; what could not be fetched is left out.

    Args:
        library: that they are of.
        fit: what is used of it.
        strict: stop at what cannot be fetched.
        progress: where to show a bar.

    Raises:
        InputError: the source cannot be reached, its limit is too small, nothing could be
            fetched, or something could not and ``strict``.
    """
    if not library.source:
        return fit
    failed = fetch(fit.used, limit=library.cache_limit, progress=progress)
    used = tuple(one for one in fit.used if one.path not in failed)
    if failed and (strict or not used):
        raise InputError(*failed.values())
    return Fitting(used, (*fit.left_out, *failed.values()))


def fetch_fitting(
    library: Library, base: str, *, accept_base: bool, progress: Progress = SILENT
) -> None:
    """Bring all files of what fits a base here, for those who look into cards and prompts first.

    What cannot be fetched is reported where it is scored.

    Raises:
        InputError: nothing fits, the source cannot be reached, or its limit is too small.
    """
    if library.source:
        fit = fitting(library.checkpoints, base, accept_base=accept_base, strict=False)
        fetch(fit.used, limit=library.cache_limit, progress=progress)
