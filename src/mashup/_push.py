"""Publish an init, a merge or a run on the Hub, with a card that says what it was made from.

The folder is staged first: weights, settings, tokenizer, ``mashup.json`` and ``README.md``, with
paths of this machine replaced by what they are on the Hub, or by names. Fields of the card's head
are those of https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mashup.checkpoint import adapter, open_checkpoint
from mashup.checkpoint.card import CARD, cell, hub_id
from mashup.checkpoint.history import MANIFEST, card_head, read_base, read_manifest
from mashup.errors import InputError, Problem, UsageError
from mashup.files import require_folder
from mashup.hub import REPOSITORY, Snapshot, faults, patiently, problem_of, quiet, snapshot_of
from mashup.outputs import new_folder, to_json

#: Files that are published. Optimizer states, logs and pickles are not.
_PUBLISHED = re.compile(
    r"adapter_(?:config\.json|model\.safetensors)|config\.json|generation_config\.json"
    r"|model(?:-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json"
    r"|(?:tokenizer|special_tokens|added_tokens|chat_template|vocab|merges|spiece|processor"
    r"|preprocessor|sentencepiece)[\w.]*\.(?:json|model|txt|jinja)|chat_template\.jinja"
    r"|mashup\.json"
)
#: Files in which paths of this machine may stand.
_NAMING = (
    *(MANIFEST, "adapter_config.json", "config.json", "generation_config.json"),
    *("tokenizer_config.json", "processor_config.json", "preprocessor_config.json"),
)
_LICENSE = ("license", "license_name", "license_link")


@dataclass(frozen=True)
class Published:
    """What :func:`push` published, or would.

    Attributes:
        path: the staged folder; None after it was uploaded and removed.
        url: of the repository; "" for a dry run.
        files: name to size in bytes.
        card: the text of the model card.
        warnings: sentences on licenses that disagree or are not known.
    """

    path: Path | None
    url: str
    files: Mapping[str, int]
    card: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """A parent of what is published: its name for others, weight, and license."""

    name: str
    weight: float | None
    license: str


def push(
    folder: str | Path,
    repository: str,
    *,
    comparison: str | Path | None = None,
    private: bool = False,
    dry_run: str | Path | None = None,
) -> Published:
    """Publish a checkpoint on the Hub.

    Args:
        folder: an init, a merge, a run, or any checkpoint that :func:`mashup.scan` finds.
        repository: ``owner/name``; it is made if it does not exist.
        comparison: output of ``mashup compare``, whose table and pictures the card shows.
        private: make a new repository private.
        dry_run: write what would be published to this new folder, and ask the Hub for nothing.

    Raises:
        UsageError: no name of a repository.
        InputError: no checkpoint, an unfinished run, no such comparison, or the Hub refuses.
        OutputError: no room on the disk.
    """
    folder = Path(folder)
    if not REPOSITORY.fullmatch(repository):
        expected = "owner/name, of letters, digits, '-', '_' and '.'"
        raise UsageError(Problem("no name of a repository", "`repository`", repository, expected))
    _check(folder)
    if dry_run is not None:
        with new_folder(Path(dry_run)) as part:
            card, warnings = _stage(folder, part, repository, comparison)
            files = _sizes(part)
        return Published(Path(dry_run), "", files, card, warnings)
    import tempfile

    with tempfile.TemporaryDirectory(prefix="mashup-push-") as made:
        card, warnings = _stage(folder, Path(made), repository, comparison)
        url = _upload(Path(made), repository, private)
        return Published(None, url, _sizes(Path(made)), card, warnings)


def _check(folder: Path) -> None:
    """Refuse what others could not load.

    Raises:
        InputError: no checkpoint, a broken one, or a run that goes on.
    """
    require_folder(folder)
    run = folder / "run.json"
    if run.exists() and json.loads(run.read_text()).get("status") == "running":
        fix = "finish it: the same training command again"
        raise InputError(
            Problem("run is not finished", str(folder), "status running", "finished", fix)
        )
    open_checkpoint(folder)


def _sizes(folder: Path) -> dict[str, int]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


# ---------------------------------------------------------------- the folder


def _stage(
    folder: Path, into: Path, repository: str, comparison: str | Path | None
) -> tuple[str, tuple[str, ...]]:
    """Fill a folder with what is published; its card and the warnings."""
    manifest = read_manifest(folder)
    named = _names(folder, manifest)
    for path in sorted(folder.iterdir()):
        if not path.is_file() or not _PUBLISHED.fullmatch(path.name):
            continue
        if path.name in _NAMING:
            (into / path.name).write_text(_without_paths(path.read_text(), named))
        else:
            _link(path, into / path.name)
    if (into / MANIFEST).exists():  # by this, `mashup verify` knows what was added to the card
        public = json.loads((into / MANIFEST).read_text())
        (into / MANIFEST).write_text(to_json(public | {"published": repository}, allow_nan=True))
    sources, warnings = _sources(folder, manifest)
    card = _card(folder, manifest, named, sources, warnings, repository)
    if comparison is not None:
        card += _comparison(Path(comparison), into, named)
    (into / CARD).write_text(card)
    return card, warnings


def _link(path: Path, place: Path) -> None:
    """The same file under another name, without a copy where the disk allows it."""
    try:
        os.link(path.resolve(), place)
    except OSError:
        shutil.copyfile(path, place)


def _names(folder: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """Path of this machine to what others call it, the longest path first."""
    base = str(manifest.get("base") or _base_of(folder))
    named = {str(p["path"]): _public(Path(p["path"]), p.get("source")) for p in _parents(manifest)}
    if manifest.get("init"):
        named[str(manifest["init"])] = _public(Path(str(manifest["init"])), None)
    if os.sep in base and (hub_id(base) or Path(base).is_absolute() or Path(base).exists()):
        named[base] = hub_id(base) or Path(base).name
    named[str(folder.absolute())] = folder.name
    named |= {os.path.abspath(path): name for path, name in named.items()}
    return dict(sorted(named.items(), key=lambda item: -len(item[0])))


def _parents(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = manifest.get("parents")
    return [one for one in found if "path" in one] if isinstance(found, list) else []


def _base_of(folder: Path) -> str:
    opened = open_checkpoint(folder)
    return opened.config.base if opened.config else read_base(folder)


def _public(path: Path, source: str | None) -> str:
    """``hub:owner/name@commit`` of a copy of the Hub, else the folder's name."""
    snapshot: Snapshot | None = snapshot_of(path)
    return source or (str(snapshot) if snapshot else path.name)


def _without_paths(text: str, named: Mapping[str, str]) -> str:
    """JSON or Markdown in which folders of this machine have their names for others."""
    for path, name in named.items():
        if os.sep in path and path != name:
            text = text.replace(path, name)
            text = text.replace(json.dumps(path)[1:-1], json.dumps(name)[1:-1])
    home = os.path.expanduser("~")
    return re.sub(rf"{re.escape(home)}/[^\s\"'`]*/([^\s\"'`/]+)", r"\1", text)


# ---------------------------------------------------------------- the card


def _sources(
    folder: Path, manifest: Mapping[str, Any]
) -> tuple[tuple[_Source, ...], tuple[str, ...]]:
    """What it was made from, with licenses; sentences on those that do not go together."""
    sources = [
        _Source(_public(Path(p["path"]), p.get("source")), p.get("weight"), _license(p["path"]))
        for p in _parents(manifest)
    ]
    base = str(manifest.get("base") or _base_of(folder))
    every = [_Source(f"the base {hub_id(base) or Path(base).name}", None, _license(base)), *sources]
    known = sorted({one.license for one in every if one.license})
    unknown = [one.name for one in every if not one.license]
    warnings = []
    if len(known) > 1:
        licenses = "; ".join(f"{one.name}: {one.license}" for one in every if one.license)
        warnings.append(f"the licenses disagree, so the card names none: {licenses}")
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        warnings.append(f"no license is known of {', '.join(unknown[:3])}{more}")
    return tuple(sources), tuple(warnings)


def _license(path: str) -> str:
    """The license in the card of a folder, "" where none is known on this machine."""
    head = card_head(Path(path)) if Path(path).is_dir() else {}
    found = head.get("license", "")
    return found if isinstance(found, str) else ", ".join(found)


def _card(
    folder: Path,
    manifest: Mapping[str, Any],
    named: Mapping[str, str],
    sources: Sequence[_Source],
    warnings: Sequence[str],
    repository: str,
) -> str:
    """The folder's own card with a head for the Hub, and its sources with their licenses."""
    text = (folder / CARD).read_text() if (folder / CARD).is_file() else ""
    body = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL).strip()
    body = body or f"# {repository.partition('/')[2]}"
    body = _without_paths(body, named).replace('"PATH"', json.dumps(repository))
    parts = [f"---\n{_head(folder, manifest, warnings)}---\n", body]
    if sources:
        rows = "\n".join(
            f"| {cell(_linked(one.name))} | {'' if one.weight is None else f'{one.weight:.4g}'} "
            f"| {cell(one.license or 'not known')} |"
            for one in sources
        )
        parts.append(f"## Sources\n\n| source | weight | license |\n|---|---|---|\n{rows}")
    parts += [f"> **Licenses.** {one[0].upper()}{one[1:]}." for one in warnings]
    return "\n\n".join(parts) + "\n"


def _linked(name: str) -> str:
    """A source of the Hub with a link to its commit."""
    match = re.fullmatch(r"hub:([\w.-]+/[\w.-]+)@([0-9a-f]{40})(/.*)?", name)
    if not match:
        return name
    where = f"https://huggingface.co/{match[1]}/tree/{match[2]}{match[3] or ''}"
    return f"[{match[1]}{match[3] or ''}]({where})"


def _head(folder: Path, manifest: Mapping[str, Any], warnings: Sequence[str]) -> str:
    """The YAML head: what the folder's card has, with base, relation and license as they are."""
    head: dict[str, Any] = dict(card_head(folder))
    base = hub_id(str(manifest.get("base") or _base_of(folder)))
    is_lora = (folder / adapter.WEIGHTS).exists()
    relation = "adapter" if is_lora else "merge" if _parents(manifest) else "finetune"
    head.pop("base_model", None)
    if any("disagree" in one for one in warnings):
        head = {key: value for key, value in head.items() if key not in _LICENSE}
    first = {"base_model": base, "base_model_relation": relation} if base else {}
    defaults = {"library_name": "peft" if is_lora else "transformers"}
    tags = [tag for tag in head.pop("tags", []) if not tag.startswith("base_model:")]
    tags = [*tags, *(["mashup-learning"] if "mashup-learning" not in tags else [])]
    made = {**first, **defaults, **head, "tags": tags}
    return yaml.safe_dump(made, sort_keys=False, allow_unicode=True)


def _comparison(folder: Path, into: Path, named: Mapping[str, str]) -> str:
    """The report of a comparison for the card; its pictures are copied.

    Raises:
        InputError: no finished comparison.
    """
    table = next((p for p in (folder / "table.md", folder / "report.md") if p.is_file()), None)
    if table is None:
        fix = "give the output of a finished 'mashup compare'"
        raise InputError(Problem("no comparison here", str(folder), "no table.md", fix=fix))
    text = _without_paths(table.read_text(), named)
    for name in sorted(set(re.findall(r"\]\((figures/[\w.-]+\.(?:png|svg))\)", text))):
        if (folder / name).is_file():
            (into / "figures").mkdir(exist_ok=True)
            _link(folder / name, into / name)
    return "\n## Comparison\n\n" + re.sub(r"^#", "###", text, flags=re.MULTILINE).strip() + "\n"


# ---------------------------------------------------------------- the Hub


def _upload(folder: Path, repository: str, private: bool) -> str:
    """Address of the repository that a folder was uploaded to, in one commit.

    Raises:
        InputError: the Hub refuses, or it cannot be reached.
    """
    from huggingface_hub import HfApi, get_token

    if not get_token():
        fix = "log in with 'hf auth login', or set HF_TOKEN; see it without: `dry_run`"
        raise InputError(Problem("no login to the Hub", repository, "no token", fix=fix))
    api = HfApi()
    try:
        with quiet():
            patiently(api.whoami)  # an unreachable Hub is noticed before anything is uploaded
            made = api.create_repo(repository, private=private or None, exist_ok=True)
            api.upload_folder(
                repo_id=repository,
                folder_path=str(folder),
                commit_message="Published by mashup push",
            )
    except faults() as error:
        raise InputError(problem_of(error, repository)) from error
    return str(made)
