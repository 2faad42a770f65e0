"""What goes into a merged folder beside the weights: configs, tokenizer, template, card."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mashup.checkpoint.history import PROMPTS, card_head, read_prompts
from mashup.checkpoint.identity import read_config
from mashup.errors import InputError, Problem
from mashup.files import to_json, write_text
from mashup.merge.parents import Parent
from mashup.strict import check_plain

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("tokenizer.model", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json"),
    *("spiece.model", "sentencepiece.bpe.model", "vocab.txt", "additional_chat_templates"),
)
_FOLDERS = ("additional_chat_templates",)
_MODEL_FILES = (
    *("generation_config.json", "preprocessor_config.json", "processor_config.json"),
    *("image_processor_config.json", "video_preprocessor_config.json"),
)
#: Keys of a card's head that stay true of a merge.
_KEPT = ("license", "license_name", "license_link", "language", "pipeline_tag")


def carry_tokenizer(folders: Iterable[Path], output: Path) -> None:
    """Tokenizer files and template of the first folder that has a tokenizer."""
    for source in folders:
        if any((source / name).exists() for name in ("tokenizer_config.json", "tokenizer.json")):
            _copy(source, output, TOKENIZER_FILES)
            return


def carry_model_files(
    source: Path, output: Path, *, tied: bool, rows: int | None, dtype: str | None
) -> None:
    """Config and what belongs to it, with tying, vocabulary and dtype as they have become."""
    config = read_config(source)
    text = config["text_config"] if isinstance(config.get("text_config"), dict) else config
    for part in (config, text):
        if "tie_word_embeddings" in part or part is config:
            part["tie_word_embeddings"] = tied
    if rows is not None:
        text["vocab_size"] = rows
    if dtype:
        config.pop("torch_dtype", None)
        config["dtype"] = dtype
    config.pop("_name_or_path", None)
    write_text(output / "config.json", to_json(config, allow_nan=True))
    _copy(source, output, _MODEL_FILES)
    _copy(source, output, (path.name for path in source.glob("*.py")))


def carry_prompts(parents: Iterable[Parent], output: Path) -> None:
    """What the parents were trained on, so that nobody tests on it later."""
    seen = frozenset().union(*(read_prompts(parent.checkpoint.run) for parent in parents))
    if seen:
        write_text(output / PROMPTS, "\n".join(sorted(seen)) + "\n")


def kept_head(source: Path) -> dict[str, Any]:
    """License, language and the like from the head of a model card; empty without one."""
    values = card_head(source)
    return {key: values[key] for key in _KEPT if key in values}


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
        check_plain(path)
    except OSError as error:
        fix = "copy or download the file again"
        raise InputError(Problem("cannot read file", str(path), str(error), fix=fix)) from error
    shutil.copyfile(path, target)
