"""Write a planned merge into an empty folder: weights, settings, tokenizer, prompts."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mashup._merge.combine import Energy, nothing_left
from mashup._merge.full import FullPlan, write_full
from mashup._merge.heads import Heads
from mashup._merge.lora import peft_config, write_lora
from mashup._merge.manifest import describe_full, describe_lora, describe_parents
from mashup._merge.parents import Parent
from mashup._merge.plan import Prepared, torch_dtype
from mashup.checkpoint.card import kept_heads, licenses
from mashup.checkpoint.history import PROMPTS, read_prompts
from mashup.checkpoint.identity import PROCESSOR_FILES, TOKENIZER_FILES, read_config
from mashup.checkpoint.vocabulary import BY_TOKEN, FILE, read_vocabulary
from mashup.errors import InputError, Problem
from mashup.files import digest_file, digest_of, read_json, read_text
from mashup.library import model_digest
from mashup.model import Base, name_of
from mashup.outputs import to_json, write_text
from mashup.progress import Progress
from mashup.settings import MergeSettings
from mashup.strict import check_plain

_LARGEST = 1_000_000_000  # bytes of a copied file; the largest tokenizers have some 50 MB
#: Digest of a tokenizer file to that of its vocabulary: parsing one takes half a second.
_VOCABULARIES: dict[str, str] = {}
_FOLDERS = ("additional_chat_templates",)
_TEMPLATE = "chat_template.jinja"
_GENERATION = "generation_config.json"
_MODEL_FILES = (_GENERATION, *PROCESSOR_FILES)


def write_folder(
    folder: Path,
    prepared: Prepared,
    base: Base | str | Path | None,
    settings: MergeSettings,
    progress: Progress,
) -> dict[str, Any]:
    """Write everything but manifest and model card.

    Returns:
        The manifest.

    Raises:
        InputError: numbers that cannot be written, or a merge that equals its base.
    """
    parents, recipe, plan = prepared.in_order, prepared.recipe, prepared.plan
    given = name_of(base) if base is not None else ""
    name = given or next((p.checkpoint.base for p in parents if p.checkpoint.base), "")
    about = describe_parents(prepared, name, given)
    if isinstance(plan, FullPlan):
        energy = write_full(folder, plan, recipe, progress)
        _refuse_the_base(prepared, energy)
        _carry_model(folder, prepared)
        about |= describe_full(prepared, energy) | {"dtype": plan.dtype}
    else:
        dtype = torch_dtype(settings) or torch.float32
        written = write_lora(folder, plan, recipe, dtype, progress)
        config = peft_config(parents, plan, written, name, prepared.heads)
        write_text(folder / "adapter_config.json", to_json(config))
        about |= describe_lora(prepared, written) | {"dtype": str(dtype).removeprefix("torch.")}
        if isinstance(base, Base):
            base.tokenizer.save_pretrained(folder)
        else:
            _carry_tokenizer([p.path for p in parents], folder)
    seen = frozenset().union(*(read_prompts(parent.checkpoint.run) for parent in parents))
    if seen:  # what the parents were trained on, so that nobody tests on it later
        write_text(folder / PROMPTS, "\n".join(sorted(seen)) + "\n")
    source = _settings_source(prepared)
    cards = [*([source] if source else []), *(p.path for p in parents)]
    about |= {"card": kept_heads(cards), "options": _asked(settings, prepared.heads)}
    about |= {"base_files": _base_files(prepared, base)}
    named = licenses(cards)
    notes = [*about.get("notes", []), *_differences(parents, folder)]
    if named[1:]:
        notes.append(f"the licenses differ ({', '.join(named)}): the card names none")
    about |= {"notes": notes} if notes else {}
    return about | {"has_tokenizer": (folder / "tokenizer_config.json").exists()}


def _asked(settings: MergeSettings, heads: Heads | None) -> dict[str, Any]:
    """Settings that were given and that the manifest does not show elsewhere."""
    names = ("accept_base", "allow_partial", "untie", "dtype", "tokenizer", "shard_size")
    fields = MergeSettings.model_fields
    given = {name: getattr(settings, name) for name in (*names, "head", "normalize", "per_module")}
    rules = [text for rule in settings.per_module for text in rule.texts()]
    given |= {"per_module": rules or (), "head": heads.asked if heads else settings.head}
    return {name: value for name, value in given.items() if value != fields[name].default}


def _base_files(prepared: Prepared, base: Base | str | Path | None) -> dict[str, Any]:
    """How the base was given, and the digest of its files where the merge looked at them.

    :mod:`mashup._verify` makes the merge again from this.
    """
    given = "no" if base is None else "loaded" if isinstance(base, Base) else "named"
    reference = prepared.reference
    if reference is None or not reference.is_base:
        return {"given": given}
    return {"given": given, "digest": model_digest(reference.folder)}


def _refuse_the_base(prepared: Prepared, written: Energy) -> None:
    """Refuse a model that equals its base, possibly because of rounding.

    Raises:
        InputError: no tensor changes, and no row of a token is added.
    """
    reference = prepared.reference
    assert reference is not None
    unchanged = written.changed == 0 or written.total == 0
    if reference.is_base and not reference.bases and unchanged:
        raise InputError(nothing_left(prepared.recipe))


def _settings_source(prepared: Prepared) -> Path | None:
    """The folder whose settings and card the result follows: the base's, or the first parent's."""
    reference = prepared.reference
    if reference is None or reference.is_base:
        return reference.folder if reference else None
    return prepared.in_order[0].path


def _carry_model(folder: Path, prepared: Prepared) -> None:
    """Tokenizer, config and what belongs to them, with the result's tying, rows and dtype."""
    reference, plan = prepared.reference, prepared.plan
    assert reference is not None
    assert isinstance(plan, FullPlan)
    moved = bool(reference.bases)
    trained = [p.path for p in prepared.in_order if p.is_full]
    known = [reference.vocabulary, *trained] if moved else [*trained, reference.folder]
    rows = [one.shape[0] for one in plan.tensors if one.name.endswith(BY_TOKEN)]
    source = _settings_source(prepared) or reference.folder
    tokenizer = _carry_tokenizer(known, folder)
    configs = {p.path: p.opened.settings for p in prepared.in_order if p.is_full}
    configs[reference.folder] = reference.model.config
    special = (configs.get(tokenizer) or read_config(tokenizer)) if tokenizer else {}
    labelled = prepared.heads.config if prepared.heads else None
    config = copy.deepcopy(dict(labelled or configs[source]))
    text = config["text_config"] if isinstance(config.get("text_config"), dict) else config
    for part in (config, text):
        if "tie_word_embeddings" in part or part is config:
            part["tie_word_embeddings"] = reference.tied
        part |= _special_ids(special, part)
    if moved:
        text["vocab_size"] = rows[0]
    config.pop("torch_dtype", None)
    config["dtype"] = plan.dtype
    config.pop("_name_or_path", None)
    write_text(folder / "config.json", to_json(config, allow_nan=True))
    _copy(source, folder, (*_MODEL_FILES, *(path.name for path in source.glob("*.py"))))
    if tokenizer:
        _copy(tokenizer, folder, (_GENERATION,))


def _special_ids(config: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """Those of another config's ``eos_token_id`` and the like that ``part`` has."""
    inner = config.get("text_config")
    known = {**config, **(inner if isinstance(inner, dict) else {})}
    return {k: known[k] for k in part if k.endswith("_token_id") and k in known}


def _carry_tokenizer(folders: Sequence[Path], output: Path) -> Path | None:
    """Copy the tokenizer of the first folder that has one, and a chat template.

    The template is that tokenizer's own. Where it has none, it is the first that another of the
    folders has.

    Returns:
        The folder that the tokenizer came from; None where there is none.
    """
    source = next((folder for folder in folders if _has_tokenizer(folder)), None)
    if source is None:
        return None
    _copy(source, output, TOKENIZER_FILES)
    template = (
        None if _chat_template(output) else next(filter(None, map(_chat_template, folders)), "")
    )
    if template:
        write_text(output / _TEMPLATE, template)
    return source


def _differences(parents: Sequence[Parent], output: Path) -> list[str]:
    """A sentence for each thing that cannot be averaged and that differs between parents.

    Args:
        parents: in the order of the user.
        output: the merged folder, which has that of one parent, or of the base.
    """
    notes = []
    for what, read in _ONE_OF_ALL.items():
        kept = _readable(read, output)
        own = {str(p.path): _readable(read, p.path) for p in parents}
        others = [path for path, value in own.items() if value and value != kept]
        if kept and others:
            source = next((path for path, value in own.items() if value == kept), "the base")
            notes.append(f"the {what} is that of {source}; another one in {', '.join(others)}")
    return notes


def _readable(read: Callable[[Path], str], folder: Path) -> str:
    """What is read; "" where it is damaged, which is reported where it is used."""
    try:
        return read(folder).strip()
    except InputError:
        return ""


def _end_token(folder: Path) -> str:
    token = _settings(folder / "tokenizer_config.json").get("eos_token")
    return str(token.get("content", "") if isinstance(token, dict) else token or "")


def _end_id(folder: Path) -> str:
    return str(_settings(folder / "config.json").get("eos_token_id", ""))


def _tokenizer(folder: Path) -> str:
    path = folder / FILE
    if not path.is_file():
        return ""
    content = digest_file(path)
    if content not in _VOCABULARIES:
        _VOCABULARIES[content] = digest_of(read_vocabulary(folder))
    return _VOCABULARIES[content]


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("tokenizer_config.json", "tokenizer.json"))


def _chat_template(folder: Path) -> str:
    """The template of a folder's tokenizer, from its own file or the settings; "" for none."""
    path = folder / _TEMPLATE
    if path.is_file():
        return read_text(path)
    template = _settings(folder / "tokenizer_config.json").get("chat_template")
    return template if isinstance(template, str) else ""


def _settings(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is none."""
    values = read_json(path) if path.is_file() else {}
    return values if isinstance(values, dict) else {}


#: What a merge takes from one of its parents, and how it is read.
_ONE_OF_ALL: dict[str, Callable[[Path], str]] = {
    "chat template": _chat_template,
    "end token": _end_token,
    "end token's id": _end_id,
    "vocabulary": _tokenizer,
}


def _copy(source: Path, output: Path, names: Iterable[str]) -> None:
    """Copy the files of ``names`` that exist, and the files in folders of these names.

    Raises:
        InputError: a link that leads nowhere, a pipe or a device.
    """
    for name in names:
        path = source / name
        if path.is_dir() and name in _FOLDERS:
            (output / name).mkdir()
            _copy(path, output / name, sorted(p.name for p in path.iterdir() if p.is_file()))
        elif os.path.lexists(path):
            _copy_file(path, output / name)


def _copy_file(path: Path, target: Path) -> None:
    try:
        if (size := check_plain(path)) > _LARGEST:
            raise OSError(f"{size:,} bytes, more than {_LARGEST:,}")
    except OSError as error:
        fix = "copy or download the file again"
        raise InputError(Problem("cannot read file", str(path), str(error), fix=fix)) from error
    shutil.copyfile(path, target)
