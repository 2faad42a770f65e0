"""Make a merge again from its manifest and its sources, and compare the two."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from mashup._init import Sample, measure
from mashup._merge.manifest import card, settings_of, versions
from mashup._merge.merge import Init, merge
from mashup._verify.checks import Check, compared_files, differing, number_problems, stored_in
from mashup.checkpoint import Stored, open_checkpoint
from mashup.checkpoint.card import CARD
from mashup.checkpoint.full import INDEX
from mashup.checkpoint.history import MANIFEST, read_manifest
from mashup.checkpoint.identity import TOKENIZER_FILES
from mashup.delta import inner, read_delta
from mashup.errors import InputError, MashupError, Problem
from mashup.evaluate.answers import evaluate_sample, task_answers
from mashup.evaluate.evaluate import sample_digest, sample_tokens
from mashup.files import read_json, size
from mashup.library import adapter_digest, model_digest
from mashup.library.sources import folder_of, kind_of_source
from mashup.library.walk import find
from mashup.model import AnyBase, Base, load_base, name_of
from mashup.outputs import to_json, write_text
from mashup.progress import SILENT, Progress
from mashup.settings import MergeSettings, MethodName
from mashup.state import read_state
from mashup.task import Task
from mashup.weights import read

#: By how much an energy of the manifest may differ, and a number of the sample (nats, bits or a
#: share): other machines round otherwise.
_ROUNDING, _SAMPLE = 1e-6, 1e-3
_AGAIN = "the folder, a source or the base was changed, or it was made by another version"
#: Keys of a manifest that say when and where it was made, or that other checks look at.
_NOT_NUMBERS = frozenset(
    {
        *("version", "versions", "base", "base_files", "parents", "partial", "notes", "card"),
        *("options", "merge_seconds", "vocabulary", "method", "has_tokenizer"),
        *("shards", "bytes"),
    }
)


class _Parent(BaseModel, extra="allow"):
    path: str
    digest: str
    weight: float
    kind: Literal["lora", "full"]
    coverage: float


class _Manifest(BaseModel, extra="allow"):
    """``mashup.json`` of a merge: the part that decides it."""

    version: Literal[1] = 1
    kind: Literal["init"]
    method: MethodName
    output_kind: Literal["lora", "full"]
    base: str = ""
    base_files: dict[str, str] = {}
    parents: list[_Parent] = Field(min_length=1)
    seed: int
    options: dict[str, Any] = {}


@dataclass(frozen=True)
class Asked:
    """What the caller of :func:`mashup.verify` gave besides the folder.

    Attributes:
        sources: folders in which a source is looked for by its content.
        base: where the base is now; None takes what the manifest says.
        task: the data that an init was scored on.
        tolerance: the relative difference of weights that still agrees.
        device: to score on.
    """

    sources: tuple[Path, ...] = ()
    base: AnyBase | None = None
    task: Task | None = None
    tolerance: float = 0.0
    device: str = "auto"
    progress: Progress = SILENT


def verify_merge(folder: Path, asked: Asked) -> Iterator[Check]:
    """A merge, and before it every merge among its sources, each once.

    Raises:
        InputError: a manifest that is damaged.
    """
    for one in _chain(folder, asked, []):
        yield from _verify_one(one, asked)
    yield from _sample_checks(folder, asked)


def _chain(folder: Path, asked: Asked, known: list[Path]) -> list[Path]:
    """The merges behind a merge, the first of them first, through trained runs as well."""
    if folder.resolve() in known:
        return []
    known.append(folder.resolve())
    about = _read(folder)
    before = []
    for place, _ in _sources(folder, about, asked):
        start = _merge_behind(place) if place else None
        before += _chain(start, asked, known) if start else []
    return [*before, folder]


def _merge_behind(source: Path) -> Path | None:
    """The merge that a source is, or that it was trained from; None where there is none."""
    about = read_manifest(source)
    if about.get("kind") == "init":
        return source
    start = about.get("init")
    if not isinstance(start, str):
        return None
    there = (place for place in (Path(start), source / start) if _is_merge(place))
    if (found := next(there, None)) or Path(start).is_dir():
        return found
    fetched = _fetched(about.get("init_source"))
    return fetched if fetched and _is_merge(fetched) else None


def _is_merge(folder: Path) -> bool:
    return read_manifest(folder).get("kind") == "init"


def _read(folder: Path) -> dict[str, Any]:
    fix = "copy the folder again; a manifest is written by mashup merge and init"
    return read_state(_Manifest, folder / MANIFEST, fix).model_dump()


def _verify_one(folder: Path, asked: Asked) -> Iterator[Check]:
    about = _read(folder)
    found = _sources(folder, about, asked)
    base = _base_of(folder, about, asked)
    checks = [check for _, check in found]
    if base is not None and (problem := _base_problem(base, about)):
        checks.append(Check("base", str(base), "differs", problem))
    yield from (*checks, _card_check(folder, about))
    places = [place for place, _ in found if place]
    if len(places) < len(found) or any(check.problem for check in checks):
        yield Check("weights", str(folder), "not made again", is_checked=False)
        return
    with tempfile.TemporaryDirectory(prefix="mashup-verify-") as room:
        try:
            made = _make(places, about, base, Path(room) / "made", asked.progress)
        except MashupError as error:
            for problem in error.problems:
                yield Check("weights", str(folder), "cannot be made again", problem)
            return
        yield from _compared(folder, about, made, asked.tolerance)


# Sources and base


def _sources(
    folder: Path, about: Mapping[str, Any], asked: Asked
) -> list[tuple[Path | None, Check]]:
    """Where each source is; None for one that is missing or has changed."""

    @cache
    def elsewhere(kind: str) -> dict[str, Path]:
        """Digest to folder of everything below the folders that the caller named."""
        found = [one.path for place in asked.sources for one in find(place).found]
        digests = {path: _digest(path, kind) for path in found}
        return {digest: path for path, digest in digests.items() if digest}

    return [_source(folder, parent, elsewhere) for parent in about["parents"]]


def _source(folder: Path, parent: Mapping[str, Any], elsewhere: Any) -> tuple[Path | None, Check]:
    given, kind, expected = Path(parent["path"]), parent["kind"], parent["digest"]
    places = [path for path in (given, folder / given) if path.is_dir()]
    digests = {path: _digest(path, kind) for path in places}
    there = next((path for path, digest in digests.items() if digest == expected), None)
    if there is None:
        there = elsewhere(kind).get(expected)
    if there is None and not places:
        there = _from_hub(parent)
    if there is not None:
        moved = "" if there == given else f", in {there}"
        return there, Check("source", str(given), f"as recorded{moved}")
    fix = "give the folder in which it is now as `sources`"
    if not places:
        problem = Problem("source is missing", str(given), "no such folder", expected[:12], fix)
        return None, Check("source", str(given), "missing", problem)
    found = f"content {digests[places[0]][:12]}" if digests[places[0]] else "no weights to read"
    expected = f"content {expected[:12]}"
    problem = Problem("source has changed", str(given), found, expected, fix)
    return None, Check("source", str(given), "changed", problem)


def _from_hub(parent: Mapping[str, Any]) -> Path | None:
    """A source that is not here, fetched at the commit that the manifest names."""
    folder = _fetched(parent.get("source") or parent["path"])
    return folder if folder and _digest(folder, parent["kind"]) == parent["digest"] else None


def _fetched(source: Any) -> Path | None:
    """A checkpoint of the Hub; None where it cannot be had, and for what names none."""
    if not isinstance(source, str) or not kind_of_source(source):
        return None
    try:
        return folder_of(source)
    except MashupError:
        return None


def _digest(folder: Path, kind: str) -> str:
    """The digest that manifests have; "" for a folder that is none of this kind."""
    try:
        opened = open_checkpoint(folder)
        if opened.checkpoint.kind != kind:
            return ""
        return model_digest(opened) if opened.is_full else adapter_digest(opened)
    except (InputError, OSError):
        return ""


def _base_of(folder: Path, about: Mapping[str, Any], asked: Asked) -> str | None:
    """The base that the merge looked at: where it is now, or its name."""
    given = about["base_files"].get("given") or ("named" if _needs_base(about) else "no")
    if given == "no":
        return None
    if asked.base is not None:
        return name_of(asked.base) if isinstance(asked.base, Base) else str(asked.base)
    copied = folder / about["base"]
    return str(copied) if not Path(about["base"]).is_dir() and copied.is_dir() else about["base"]


def _needs_base(about: Mapping[str, Any]) -> bool:
    """Whether a merge of an earlier version, which did not note it, was given a base."""
    if about["output_kind"] == "full":
        return about.get("relative_error") is not None
    return "sample" in about or any(parent["kind"] == "full" for parent in about["parents"])


def _base_problem(base: str, about: Mapping[str, Any]) -> Problem | None:
    expected = about["base_files"].get("digest")
    if not expected or not Path(base).is_dir():
        return None
    found = _digest(Path(base), "full")
    if found == expected:
        return None
    fix = "give the base that it was made with as `base`"
    found = f"content {found[:12]}" if found else "no weights to read"
    return Problem("base has changed", base, found, f"content {expected[:12]}", fix)


# The merge, made again


def _make(
    places: Sequence[Path],
    about: dict[str, Any],
    base: str | None,
    output: Path,
    progress: Progress,
) -> Init:
    """The merge again. Names of bases are not compared: folders may have moved."""
    opened = [open_checkpoint(place) for place in places]
    named = [replace(one, checkpoint=replace(one.checkpoint, base=about["base"])) for one in opened]
    settings = MergeSettings(**settings_of(about) | {"accept_base": True})
    init = merge(named, settings, output=output, base=base, progress=progress)
    config = output / "adapter_config.json"
    if config.exists():
        values = read_json(config) | {"base_model_name_or_path": about["base"]}
        write_text(config, to_json(values))
    loaded = about["base_files"].get("given", "loaded" if "sample" in about else "") == "loaded"
    if loaded and base and about["output_kind"] == "lora":
        _tokenizer_of(base, output)
    return init


def _tokenizer_of(base: str, folder: Path) -> None:
    """The tokenizer as a merge with a base in memory writes it: as transformers saves it."""
    from transformers import AutoTokenizer

    for name in TOKENIZER_FILES:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)


def _compared(folder: Path, about: dict[str, Any], made: Init, tolerance: float) -> Iterator[Check]:
    yield _weights_check(folder, about, made.path, tolerance)
    weights = {path.name for one in (folder, made.path) for path in one.glob("*.safetensors")}
    skipped = frozenset({*weights, INDEX, MANIFEST, CARD})
    yield from compared_files(folder, made.path, skipped, _AGAIN)
    noted = {name: value for name, value in made.manifest.items() if name not in _NOT_NUMBERS}
    problems = number_problems(about, noted, MANIFEST, _ROUNDING)
    covered = {f"coverage of {p['path']}": p["coverage"] for p in about["parents"]}
    again = dict(zip(covered, (p["coverage"] for p in made.manifest["parents"]), strict=True))
    problems += number_problems(covered, again, MANIFEST, _ROUNDING)
    yield from _as_checks("numbers", MANIFEST, f"{len(noted) + len(again)} values", problems)


def _as_checks(what: str, where: str, found: str, problems: Sequence[Problem]) -> Iterator[Check]:
    """One check that agrees, or one for each problem."""
    if not problems:
        yield Check(what, where, found)
    for problem in problems:
        yield Check(what, where, f"{problem.found}, not {problem.expected}", problem)


def _card_check(folder: Path, about: dict[str, Any]) -> Check:
    """The text of the model card is that of the manifest. Its head names bases by their place.

    Of what ``mashup push`` published, the card names the repository and goes on after that text.
    """
    path, repository = folder / CARD, about.get("published")
    text = (path.read_text("utf-8") if path.is_file() else "").partition("\n# ")[2]
    expected = card(about).partition("\n# ")[2]
    if repository:
        expected = expected.replace('"PATH"', json.dumps(repository)).strip()
    if text == expected or (repository and text.startswith(expected)):
        return Check("model card", CARD, "as the manifest says")
    found, expected = ("another text" if text else "no text"), f"the text of {MANIFEST}"
    problem = Problem("model card differs from its manifest", str(path), found, expected, _AGAIN)
    return Check("model card", CARD, found, problem)


def _weights_check(folder: Path, about: Mapping[str, Any], made: Path, tolerance: float) -> Check:
    try:
        kept, again = stored_in(folder), stored_in(made)
    except InputError as error:
        return Check("weights", str(folder), "cannot be read", error.problems[0])
    other = differing(kept, again)
    total = size(sum(one.info.bytes for one in again.values()))
    if not other:
        return Check("weights", str(folder), f"the same bytes in {len(again)} tensors, {total}")
    where, expected = str(folder), f"the bytes of {len(again)} tensors, {total}"
    found = f"{len(other)} of {len(again)} tensors differ, the first {other[0]}"
    if kept.keys() == again.keys() and all(kept[n].shape == again[n].shape for n in kept):
        apart = _relative(folder, made, about["output_kind"] == "lora", kept, again)
        found += f"; relative difference {apart:.2g}"
        if apart <= tolerance:
            return Check("weights", where, f"{found}, within the tolerance of {tolerance:g}")
    fix = f"{_AGAIN}; {_versions(about)}`tolerance` accepts differences by rounding"
    return Check("weights", where, found, Problem("weights differ", where, found, expected, fix))


def _versions(about: Mapping[str, Any]) -> str:
    """Packages of other versions than those that the merge was made with."""
    now, then = versions(), about.get("versions", {})
    names = [name for name in then if name in now and then[name] != now[name]]
    other = ", ".join(f"{name} {then[name]} (here {now[name]})" for name in names)
    return f"it was made with {other}; " if other else ""


def _relative(
    folder: Path,
    made: Path,
    is_lora: bool,
    kept: Mapping[str, Stored],
    again: Mapping[str, Stored],
) -> float:
    """``‖kept - made‖ / ‖made‖``: of the deltas of a LoRA, whose factors may be turned."""
    try:
        deltas = (read_delta(folder), read_delta(made)) if is_lora else None
    except InputError:  # numbers that are not finite
        return math.inf
    squares: list[tuple[float, float]] = []  # of the difference, and of what is made again
    names = set(again)
    if deltas:
        one, other = deltas
        for name, factors in other.modules.items():
            mine = one.modules[name]
            own, total = float(inner(mine, mine)), float(inner(factors, factors))
            squares.append((max(0.0, own + total - 2 * float(inner(mine, factors))), total))
        names = {name for name in names if ".lora_" not in name}
    for name in names:
        value, new = read(kept[name]).double(), read(again[name]).double()
        squares.append((float(((value - new) ** 2).sum()), float((new**2).sum())))
    lost, total = (sum(column) for column in zip(*squares, strict=True))
    return math.sqrt(lost / total) if total else math.inf


# The sample


def _sample_checks(folder: Path, asked: Asked) -> Iterator[Check]:
    about = _read(folder)
    noted = about.get("sample")
    if noted is None:
        if asked.task is not None:
            found = "the merge was not scored when it was made"
            yield Check("sample", MANIFEST, found, is_checked=False)
        return
    where = f"sample of {about.get('task', {}).get('name', 'a task')}"
    if asked.task is None:
        yield Check("sample", where, "not scored again: no data given", is_checked=False)
        return
    task, known = asked.task, about.get("task", {}).get("digest")
    if task.digest != known:
        fix = "give the dataset and the options of splitting that the init was made with"
        found, expected = f"digest {task.digest[:12]}", f"digest {str(known)[:12]}"
        problem = Problem("other data than the init was made for", task.name, found, expected, fix)
        yield Check("sample", where, found, problem)
        return
    try:
        yield from _scored_again(folder, about, noted, asked, where)
    except InputError as error:
        for problem in error.problems:
            yield Check("sample", where, "cannot be scored again", problem)


def _scored_again(
    folder: Path,
    about: Mapping[str, Any],
    noted: Mapping[str, Any],
    asked: Asked,
    where: str,
) -> Iterator[Check]:
    """The base, and every number of the sample, again.

    Raises:
        InputError: a base that cannot be loaded, or rows that cannot be used.
    """
    assert asked.task is not None
    dtype = str(noted["base_dtype"]).removeprefix("torch.")
    given = asked.base if asked.base is not None else about["base"]
    base = load_base(given, dtype=dtype, device=asked.device)
    if base.digest != noted["base_digest"]:
        fix = "give the base that it was made with as `base`"
        expected = f"digest {noted['base_digest'][:12]}"
        found = f"digest {base.digest[:12]}"
        problem = Problem("base has changed", base.name, found, expected, fix)
        yield Check("sample", where, found, problem)
        return
    made = _scored(folder, base, asked.task, noted, asked.progress)
    problems = number_problems(noted, made, f"{MANIFEST}, sample", _SAMPLE)
    yield from _as_checks("sample", where, f"loss {made['loss']:.4f}, as recorded", problems)


def _scored(
    folder: Path, base: Base, task: Task, noted: Mapping[str, Any], progress: Progress
) -> dict[str, Any]:
    """The numbers of the sample again, by their names in the manifest."""
    drawn = {name: noted[name] for name in ("samples", "seed", "max_length") if name in noted}
    sample = Sample(**{"samples": noted["examples"]} | drawn)
    tokens = sample_tokens(base, task, sample.samples, sample.seed, sample.max_length)
    by_knowledge = noted.get("criterion") == "knowledge"
    merged = measure(folder, base, task, sample, progress, "knowledge" if by_knowledge else "loss")
    answers = task_answers(base, task, tokens, sample.seed) if by_knowledge else None
    bare = replace(merged, evaluation=evaluate_sample(base, tokens, answers, progress=progress))
    difference, error = merged.against(bare)
    known = merged.knowledge
    return {
        "digest": sample_digest(tokens),
        "examples": len(tokens),
        "base_loss": bare.loss,
        "base_accuracy": bare.accuracy,
        "loss": merged.loss,
        "accuracy": merged.accuracy,
        "difference": difference,
        "standard_error": error,
        **({"knowledge": known.bits, "knowledge_error": known.error} if known else {}),
    }
