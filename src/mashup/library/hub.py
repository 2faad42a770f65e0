"""Checkpoints on the Hugging Face Hub: listed from headers and JSON, fetched when they are needed.

A scan asks the Hub for the repositories of an owner, a collection or a search, and reads of each
checkpoint its small files and the header of its weights (an HTTP range). What it learns is
remembered by the commit, so the next scan asks for the list alone. :mod:`mashup.library.fetch`
downloads what is scored or merged, at the same commit.

Names come from anyone: a repository, a commit or a file whose name could lead out of the cache is
passed over.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote

from mashup.checkpoint import Checkpoint, adapter, full, history
from mashup.checkpoint.config import CONFIG
from mashup.checkpoint.identity import named_base
from mashup.checkpoint.read import Kind, describe, is_optimizer, kind_of, trainer_of_shards
from mashup.errors import InputError, Problem, UsageError, printable
from mashup.files import digest_of, read_json, size, user_cache
from mashup.hub import (
    COMMIT,
    REPOSITORY,
    Snapshot,
    cache_folder,
    faults,
    get_json,
    is_offline,
    is_unreachable,
    problem_of,
    quiet,
    read_start,
)
from mashup.library.index import Index
from mashup.outputs import disk_errors, make_folder, to_json, write_bytes, write_text
from mashup.progress import SILENT, Progress

T = TypeVar("T")
R = TypeVar("R")

#: Files that describe a checkpoint; they are read whole when it is listed.
_SMALL = (
    *(CONFIG, history.MANIFEST, history.TRAINER_STATE, history.RESULTS, history.PROMPTS),
    *("config.json", full.INDEX),
)
_CARD = "README.md"  # read for full checkpoints: a LoRA names its base in its settings
_FETCHED = re.compile(r".*\.(?:json|model|txt|jinja)|README\.md")
COMPLETE = ".mashup-complete"  # next to the files of a checkpoint that was fetched; its last use
NAMES = ".mashup-files.json"  # what :mod:`mashup.library.fetch` downloads
_LARGEST = 32_000_000  # bytes of a small file
_FIRST = 1 << 16  # bytes of a header that are asked for at first: enough for most LoRAs
_MAX_HEADER = 100_000_000
WORKERS = 8
_MOST = 100  # repositories of a search that sets no limit
_COLLECTION = re.compile(r"[\w.-]+/[\w.-]*-[0-9a-f]{24}", re.ASCII)
_OWNER = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_SEARCH = ("base_model", "tags", "author", "search", "limit")
_FORMS = "hub:ORG, hub:OWNER/NAME, hub:OWNER/COLLECTION-SLUG or hub:search?base_model=...&tags=..."


def home() -> Path:
    """The folder of what is fetched from the Hub."""
    return user_cache() / "sources" / "hub"


@dataclass(frozen=True)
class Repository:
    """A repository of models at a commit, with the names of its files."""

    id: str
    commit: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Listed:
    """A folder of a repository that holds a checkpoint.

    Attributes:
        at: repository, commit and folder.
        kind: by the names of its files.
        names: of its files, without the folder.
        folders: names of the folders in it.
    """

    at: Snapshot
    kind: Kind
    names: tuple[str, ...]
    folders: tuple[str, ...]

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of safetensors files that may hold its weights."""
        if self.kind == "lora":
            return tuple(name for name in self.names if name == adapter.WEIGHTS)
        return tuple(name for name in self.names if name.endswith(".safetensors"))

    @property
    def here(self) -> Path:
        """Its folder: in the user's cache of the Hub if all of it is there, else in ours."""
        theirs = cache_folder() / self.at.path
        wanted = (*self.weights, CONFIG if self.kind == "lora" else "config.json")
        if all((theirs / name).exists() for name in wanted):
            return theirs
        return home() / self.at.path

    @property
    def is_here(self) -> bool:
        """Whether its weights are on this machine."""
        here = self.here
        return not here.is_relative_to(home()) or (here / COMPLETE).exists()


def list_hub(
    source: str, progress: Progress = SILENT
) -> tuple[tuple[Checkpoint, ...], tuple[str, ...]]:
    """The checkpoints of ``hub:...``, and notes for the user.

    Without a connection they are those of the last listing whose weights are on this machine.

    Raises:
        UsageError: not a source of the Hub.
        InputError: the Hub refuses, or it cannot be reached and nothing is known of the source.
    """
    text = source.removeprefix("hub:")
    ask, at = _request(text), single_in(text)
    with disk_errors(home()):
        make_folder(home())
    try:
        with quiet():
            found, date = list(ask()), ""
        write_text(_memory(source), to_json(_to_memory(found)))
    except faults() as error:
        if not is_unreachable(error):
            raise InputError(problem_of(error, source)) from error
        found, date = _remembered(source, error)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        where, fix = "an answer that is not one of a Hub", "check HF_ENDPOINT and the proxy"
        raise InputError(Problem("the Hub cannot be used", source, where, fix=fix)) from error
    listed, notes = _checkpoints_in(found)
    if at and at.inner:
        listed = [one for one in listed if f"{one.at.inner}/".startswith(f"{at.inner}/")]
    if date:
        kept = [one for one in listed if one.is_here]
        why = "it is offline" if is_offline() else "the Hub cannot be reached"
        notes.append(
            f"{source}: {why}, so this is what was fetched before: {len(kept)} of the "
            f"{len(listed)} checkpoints of the listing of {date}"
        )
        listed = kept
    return tuple(_described(listed, progress)), tuple(notes)


# ---------------------------------------------------------------- what the Hub has


def check_source(text: str) -> None:
    """Refuse what is no source of the Hub.

    Raises:
        UsageError: with the forms that there are.
    """
    _request(text.removeprefix("hub:"))


def single_in(text: str) -> Snapshot | None:
    """Repository, revision ("" for the newest) and folder that a source without ``hub:`` names.

    A folder is looked for after a commit only, since names of branches may have a slash. None for
    a source of several repositories.
    """
    name, _, revision = text.partition("@")
    if not REPOSITORY.fullmatch(name) or (_COLLECTION.fullmatch(name) and not revision):
        return None
    commit, _, inner = revision.partition("/")
    if COMMIT.fullmatch(commit):
        return Snapshot(name, commit, inner.strip("/"))
    return Snapshot(name, revision)


def _request(text: str) -> Callable[[], Iterable[Repository]]:
    """What asks the Hub for the repositories of a source."""
    if text.startswith("search?"):
        return _search(text.removeprefix("search?"))
    if _COLLECTION.fullmatch(text):
        return lambda: _collection(text)
    if at := single_in(text):
        return lambda: [_repository(at.repo, at.commit)]
    if _OWNER.fullmatch(text):
        return lambda: _list(author=text)
    raise UsageError(Problem("no such source", f"hub:{text}", "another form", _FORMS))


def _search(query: str) -> Callable[[], Iterable[Repository]]:
    given = dict(parse_qsl(query, keep_blank_values=True))
    unknown = [name for name in given if name not in _SEARCH]
    limit = given.get("limit", str(_MOST))
    if unknown or not given or not limit.isdecimal() or not int(limit):
        found = f"{unknown[0]}" if unknown else f"limit={limit}" if given else "nothing to search"
        expected = f"{', '.join(_SEARCH)}, joined by &; limit is a number (by default {_MOST})"
        raise UsageError(Problem("bad search", f"hub:search?{query}", found, expected))
    tags = [tag for tag in given.get("tags", "").split(",") if tag]
    tags += [f"base_model:{given['base_model']}"] if given.get("base_model") else []
    options = {name: given[name] for name in ("author", "search") if given.get(name)}
    return lambda: _list(filter=tags or None, limit=int(limit), **options)


def _list(limit: int | None = None, **query: Any) -> list[Repository]:
    pages = get_json("models", full="true", **query, **({"limit": limit} if limit else {}))
    return list(islice((_of(one) for page in pages for one in page), limit))


def _repository(name: str, revision: str = "") -> Repository:
    at = f"/revision/{quote(revision, safe='')}" if revision else ""
    return _of(next(get_json(f"models/{name}{at}")))


def _collection(slug: str) -> list[Repository]:
    items = next(get_json(f"collections/{slug}"))["items"]
    names = [item["id"] for item in items if item["type"] == "model"]
    known = list(filter(REPOSITORY.fullmatch, names))
    return [one for _, one in in_parallel(_repository, known, 8)]


def _of(info: Any) -> Repository:
    files = tuple(str(one["rfilename"]) for one in info.get("siblings") or ())
    return Repository(str(info["id"]), str(info.get("sha") or ""), files)


def _memory(source: str) -> Path:
    """Where the last listing of a source is kept."""
    return home() / f"listing-{digest_of(source)[:16]}.json"


def _to_memory(found: Iterable[Repository]) -> dict[str, Any]:
    named = [{"id": one.id, "commit": one.commit, "files": one.files} for one in found]
    return {"date": time.strftime("%Y-%m-%d"), "repositories": named}


def _remembered(source: str, error: Exception) -> tuple[list[Repository], str]:
    """The last listing of a source and its date.

    Raises:
        InputError: there is none.
    """
    try:
        kept = read_json(_memory(source))
        found = [
            Repository(str(one["id"]), str(one["commit"]), tuple(map(str, one["files"])))
            for one in kept["repositories"]
        ]
        return found, str(kept["date"])
    except (InputError, LookupError, TypeError):
        raise InputError(problem_of(error, source)) from error


# ---------------------------------------------------------------- which folders are checkpoints


def _checkpoints_in(found: Iterable[Repository]) -> tuple[list[Listed], list[str]]:
    """The folders with a checkpoint, and notes on what holds none or has a name that is unsafe."""
    listed: list[Listed] = []
    without: list[str] = []
    unsafe: list[str] = []
    for one in found:
        if not REPOSITORY.fullmatch(one.id) or not COMMIT.fullmatch(one.commit):
            unsafe.append(one.id)
            continue
        unsafe += [f"{one.id}/{name}" for name in one.files if not is_safe(name)]
        folders = list(_folders(one))
        listed += folders
        without += [] if folders else [one.id]
    notes = [
        f"{len(names):,} {what}: {printable(names[0])[:200]}"
        for names, what in (
            (without, "repositories without a checkpoint"),
            (unsafe, "names that could lead out of the cache passed over"),
        )
        if names
    ]
    return listed, notes


def is_safe(name: str) -> bool:
    """Whether a file's name stays in its repository, on every system."""
    parts = name.split("/")
    plain = name.isprintable() and not set(name) & set('\\:*?"<>|')
    return plain and all(part not in ("", ".", "..") and len(part) < 200 for part in parts)


def _folders(one: Repository) -> Iterator[Listed]:
    files: dict[str, list[str]] = {}
    inside: dict[str, set[str]] = {}
    for path in map(PurePosixPath, filter(is_safe, one.files)):
        if any(part.startswith(".") for part in path.parts):
            continue
        files.setdefault(str(path.parent), []).append(path.name)
        for above in path.parents:
            if above.name:
                inside.setdefault(str(above.parent), set()).add(above.name)
    for folder, names in sorted(files.items()):
        within = PurePosixPath(folder)
        inner = inside.get(folder, set())
        kind = kind_of({*names, *inner})
        if kind is None or is_optimizer(within.name, names) or trainer_of_shards(within.parts):
            continue
        at = Snapshot(one.id, one.commit, "" if folder == "." else folder)
        yield Listed(at, kind, tuple(sorted(names)), tuple(sorted(inner)))


# ---------------------------------------------------------------- what they are, from headers


def _described(listed: Sequence[Listed], progress: Progress) -> list[Checkpoint]:
    """Each of them as a checkpoint; what is new is read from the Hub.

    Raises:
        InputError: the Hub cannot be reached, or refuses them all; what was read is remembered.
    """
    from mashup.library.scan import dump_record, load_record

    made: dict[Snapshot, Checkpoint] = {}
    with Index(home()) as index:
        known = index.checkpoints()
        for one in listed:
            _, record = known.get(str(one.at), ("", ""))
            is_kept = one.is_here or (one.here / NAMES).is_file()
            if is_kept and (checkpoint := load_record(record, one.here)):
                made[one.at] = checkpoint
        new = [one for one in listed if one.at not in made]
        read: dict[str, tuple[str, str]] = {}
        try:
            with quiet(), progress.bar("reading headers", len(new)) as advance:
                for one, checkpoint in in_parallel(_read, new, WORKERS):
                    made[one.at] = checkpoint
                    advance()
                    if checkpoint.problem is None:
                        read[str(one.at)] = one.at.commit, dump_record(checkpoint)
        finally:
            if read:
                index.replace_checkpoints(read, ())
    return [_with_base(made[one.at]) for one in listed]


def _with_base(one: Checkpoint) -> Checkpoint:
    """With the base that a user named, where the checkpoint names none."""
    return one if one.base else replace(one, base=named_base(one.path))


def in_parallel(work: Callable[[T], R], things: Sequence[T], workers: int) -> Iterator[tuple[T, R]]:
    """Each thing with what ``work`` makes of it, several at a time; a fault stops the rest."""
    with ThreadPoolExecutor(workers) as pool:
        results = [pool.submit(work, one) for one in things]
        try:
            for one, result in zip(things, results, strict=True):
                yield one, result.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _read(one: Listed) -> Checkpoint:
    here = one.here
    try:
        return _read_here(one, here) if one.is_here else _read_there(one, here)
    except InputError as error:
        return Checkpoint(here, one.kind, problem=error.problems[0])
    except faults() as error:
        problem = problem_of(error, str(one.at))
        if is_unreachable(error) or problem.code in ("hub.limit", "hub.token"):
            raise InputError(problem) from error
        return Checkpoint(here, one.kind, problem=problem)


def _read_here(one: Listed, here: Path) -> Checkpoint:
    return replace(describe(here), kind=one.kind)


def _read_there(one: Listed, here: Path) -> Checkpoint:
    """What a checkpoint on the Hub is: small files are kept in ``here``, of weights the header.

    It is described in a scratch folder where a file of weights has its header and its length and
    no content. Nothing else sees that folder, so zeros are never taken for weights.
    """
    for name in _small(one):
        _keep_small(one.at, name, here / name)
    if history.step_of(here) is not None and one.at.inner:  # prompts are kept next to the run
        _keep_prompts(one, here.parent)
    with disk_errors(here):
        make_folder(here)
    fetched = [name for name in one.names if _FETCHED.fullmatch(name)]
    write_text(here / NAMES, to_json(sorted({*fetched, *_weights(one, here)})))
    with tempfile.TemporaryDirectory(prefix="mashup-") as made:
        scratch = Path(made, here.name)
        scratch.mkdir()
        for folder in one.folders:
            (scratch / folder).mkdir()
        for name in one.names:
            if (here / name).is_file() and name in _small(one):
                shutil.copyfile(here / name, scratch / name)
            else:
                (scratch / name).touch()
        for name in _weights(one, here):
            _write_header(one.at, name, scratch / name)
        found = describe(scratch)
        problem = found.problem and replace(
            found.problem, where=found.problem.where.replace(str(scratch), str(one.at))
        )
        return replace(found, path=here, name="", problem=problem)


def _small(one: Listed) -> list[str]:
    wanted = _SMALL if one.kind == "lora" else (*_SMALL, _CARD)
    return [name for name in one.names if name in wanted]


def _weights(one: Listed, here: Path) -> list[str]:
    """Files of weights that are read: of a full checkpoint one, or those that its index names."""
    if one.kind == "lora" or full.WEIGHTS in one.names:
        return [name for name in one.weights if name in (adapter.WEIGHTS, full.WEIGHTS)]
    placed = read_json(here / full.INDEX) if full.INDEX in one.names else {}
    placed = placed.get("weight_map") if isinstance(placed, dict) else {}
    named = set(map(str, placed.values())) if isinstance(placed, dict) else set()
    return [name for name in one.weights if name in named]


def _keep_small(at: Snapshot, name: str, path: Path) -> None:
    if path.is_file():
        return
    part = read_start(at, inside(at, name), _LARGEST)
    if part.size > _LARGEST:
        found, most = size(part.size), f"at most {size(_LARGEST)}"
        fix = "leave this repository out"
        raise InputError(Problem("file is too large", f"{at}/{name}", found, most, fix))
    with disk_errors(path):
        make_folder(path.parent)
    write_bytes(path, part.content)


def _keep_prompts(one: Listed, run: Path) -> None:
    """The list of training prompts next to a run's steps, where there is one."""
    above = replace(one.at, inner=str(PurePosixPath(one.at.inner).parent).removeprefix("."))
    try:
        _keep_small(above, history.PROMPTS, run / history.PROMPTS)
    except faults() as error:
        if problem_of(error, "").code not in ("hub.file", "hub.missing"):
            raise


def inside(at: Snapshot, name: str) -> str:
    return f"{at.inner}/{name}" if at.inner else name


def _write_header(at: Snapshot, name: str, path: Path) -> None:
    """A file with the header of a safetensors file on the Hub, and its length."""
    part = read_start(at, inside(at, name), _FIRST)
    length = 8 + int.from_bytes(part.content[:8], "little")
    if _FIRST < length <= min(part.size, _MAX_HEADER):
        part = read_start(at, inside(at, name), length)
    path.write_bytes(part.content)
    os.truncate(path, max(part.size, len(part.content)))
