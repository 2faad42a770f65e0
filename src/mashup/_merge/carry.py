"""What goes into a merged folder beside the weights: configs, tokenizer, template, card."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mashup._merge.parents import Parent
from mashup.checkpoint.history import PROMPTS, read_prompts
from mashup.checkpoint.identity import TOKENIZER_FILES, read_config
from mashup.checkpoint.vocabulary import FILE, read_vocabulary
from mashup.errors import InputError, Problem
from mashup.files import digest_file, digest_of, read_json, read_text, to_json, write_text
from mashup.strict import check_plain

_LARGEST = 1_000_000_000  # bytes of a copied file; the largest tokenizers have some 50 MB
#: Digest of a tokenizer file to that of its vocabulary: parsing one takes half a second.
_VOCABULARIES: dict[str, str] = {}
_FOLDERS = ("additional_chat_templates",)
TEMPLATE = "chat_template.jinja"
GENERATION = "generation_config.json"
_MODEL_FILES = (
    *(GENERATION, "preprocessor_config.json", "processor_config.json"),
    *("image_processor_config.json", "video_preprocessor_config.json"),
)


def carry_tokenizer(folders: Sequence[Path], output: Path) -> Path | None:
    """Tokenizer files of the first folder that has a tokenizer, and a chat template.

    The template is that tokenizer's own, else the first that another of the folders has: a base
    without one must not take it from its fine-tunes. Returns the folder of the tokenizer.
    """
    source = next((folder for folder in folders if _has_tokenizer(folder)), None)
    if source is None:
        return None
    _copy(source, output, TOKENIZER_FILES)
    template = (
        None if chat_template(output) else next(filter(None, map(chat_template, folders)), "")
    )
    if template:
        write_text(output / TEMPLATE, template)
    return source


def differences(parents: Sequence[Parent], output: Path) -> list[str]:
    """What cannot be averaged and is not the same in all parents: a sentence for each.

    Args:
        parents: in the order of the user.
        output: the merged folder, which has one parent's, or the base's.
    """
    notes = []
    for what, read in _ONE_OF_ALL.items():
        kept = _readable(read, output)
        own = {str(p.checkpoint.path): _readable(read, p.checkpoint.path) for p in parents}
        others = [path for path, value in own.items() if value and value != kept]
        if kept and others:
            source = next((path for path, value in own.items() if value == kept), "the base")
            notes.append(f"the {what} is that of {source}; another one in {', '.join(others)}")
    return notes


def _readable(read: Callable[[Path], str], folder: Path) -> str:
    """What is read, "" where it is damaged: that is told where it is used."""
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


def chat_template(folder: Path) -> str:
    """The template of a folder's tokenizer, in a file of its own or in the settings; "" if none."""
    path = folder / TEMPLATE
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
    "chat template": chat_template,
    "end token": _end_token,
    "end token's id": _end_id,
    "vocabulary": _tokenizer,
}


def carry_model_files(
    source: Path,
    output: Path,
    *,
    tied: bool,
    rows: int | None,
    dtype: str,
    tokenizer: Path | None = None,
) -> None:
    """Config and what belongs to it, with tying, vocabulary and dtype as they have become.

    Args:
        source: the folder of the model that the result is shaped like.
        output: the folder to write to.
        tied: whether the output head is the embedding.
        rows: of the embedding, None where they are as in ``source``.
        dtype: torch's name of the type that most of the weights have.
        tokenizer: the folder that the tokenizer came from: its config says which ids are special.
    """
    config = read_config(source)
    text = config["text_config"] if isinstance(config.get("text_config"), dict) else config
    for part in (config, text):
        if "tie_word_embeddings" in part or part is config:
            part["tie_word_embeddings"] = tied
        part |= _special_ids(read_config(tokenizer), part) if tokenizer else {}
    if rows is not None:
        text["vocab_size"] = rows
    config.pop("torch_dtype", None)
    config["dtype"] = dtype
    config.pop("_name_or_path", None)
    write_text(output / "config.json", to_json(config, allow_nan=True))
    _copy(source, output, _MODEL_FILES)
    _copy(source, output, (path.name for path in source.glob("*.py")))
    if tokenizer:
        _copy(tokenizer, output, (GENERATION,))


def _special_ids(config: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """``eos_token_id`` and the like of another config, those that ``part`` has."""
    inner = config.get("text_config")
    told = {**config, **(inner if isinstance(inner, dict) else {})}
    return {k: told[k] for k in part if k.endswith("_token_id") and k in told}


def carry_prompts(parents: Iterable[Parent], output: Path) -> None:
    """What the parents were trained on, so that nobody tests on it later."""
    seen = frozenset().union(*(read_prompts(parent.checkpoint.run) for parent in parents))
    if seen:
        write_text(output / PROMPTS, "\n".join(sorted(seen)) + "\n")


def _copy(source: Path, output: Path, names: Iterable[str]) -> None:
    """Copy what is there of ``names``; of a folder the files in it.

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
        size = check_plain(path)
        if size > _LARGEST:
            raise OSError(f"{size:,} bytes, more than {_LARGEST:,}")
    except OSError as error:
        fix = "copy or download the file again"
        raise InputError(Problem("cannot read file", str(path), str(error), fix=fix)) from error
    shutil.copyfile(path, target)
