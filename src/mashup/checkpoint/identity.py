"""Which base model is this, and what are checkpoints called? Names are often blank or local.

A base model is identified in five ways, each for one purpose:

- by name (:func:`same_base`): a LoRA states nothing else. :mod:`mashup.checkpoint.fit` compares
  its tensors with those of the base.
- by :func:`fingerprint`: its sizes and tokenizer, as a merge's manifest shows them to people.
- by :attr:`mashup.model.Base.digest`: configuration and weights as they are loaded. Scores are
  remembered by it, and a merge's manifest has it.
- by :func:`mashup.library.digest.base_digest`: the weights' files and :func:`settings_digest`,
  which is everything in the folder that results depend on. Experiments keep jobs by it.
- by :func:`mashup.files.folder_stamp`: the state of its files, without reading them. A finished
  run is recognised by it.

The names that a user gives to bases are in ``.mashup/bases.json`` in a library's folder. The file
maps patterns of paths below that folder to names, so the checkpoints themselves do not change.
"""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from mashup.checkpoint.history import step_of
from mashup.errors import InputError, printable
from mashup.files import digest_file, digest_of, read_json
from mashup.outputs import disk_errors, to_json, write_text

_HUB_CACHE = re.compile(r"models--(?:[^/]+?--)?(?P<name>[^/]+)/snapshots/")
#: Words that say how a model was quantised, and words about such a word. At the end of a name
#: they mean the same model, without retraining.
_BITS = r"[2-8][-_]?bits?|int[48]|nf4|fp[48]|gptq|awq|hqq|w\d+a\d+"
_DETAIL = (
    r"unsloth|bnb|quantized|g\d+|\d+g|gs\d+|(?:act)?order(?:[-_](?:true|false))?|a?sym|"
    r"marlin|gem[mv]|dynamic|static|block"
)
_QUANTISED = re.compile(
    rf"(?:[-_.](?:{_DETAIL}))*[-_.](?:{_BITS})(?:[-_.](?:{_BITS}|{_DETAIL}))*$", re.IGNORECASE
)
#: Names of folders that say nothing of what is in them, unless with the folder above.
_ANYTHING = re.compile(
    r"(?:checkpoint|global_?step|step|epoch)[-_]?\d+|\d+|base|best|final|full|hf|last|latest|"
    r"merged|model|output|out|sft|weights|(?:best|final|merged)[-_](?:model|checkpoint)"
)
#: How names of the output head's tensor end.
HEAD = "lm_head.weight"
_SIZES = (
    *("model_type", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size"),
)
#: Settings that say where a model is from and how it was saved, not what it computes.
_NOT_COMPUTED = frozenset(
    (
        *("_name_or_path", "name_or_path", "_commit_hash", "transformers_version"),
        *("architectures", "tokenizer_file"),
    )
)
#: Files that decide which tokens a text becomes. JSON of settings is compared by its values.
_TOKENIZER_SETTINGS = (
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    "chat_template.json",
)
TOKENIZER_FILES = (
    *(*_TOKENIZER_SETTINGS, "tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt"),
    *("chat_template.jinja", "spiece.model", "sentencepiece.bpe.model", "vocab.txt"),
    "additional_chat_templates",
)
#: Files that decide what a model that sees is given of a picture.
PROCESSOR_FILES = (
    *("preprocessor_config.json", "processor_config.json"),
    *("image_processor_config.json", "video_preprocessor_config.json"),
)


def canonical_name(name: str) -> str:
    """The comparable part of a base's name.

    The last part of a Hub id or path, lower case, without a suffix that says how it was
    quantised, and with the part before it where it could be anything's (``run/checkpoint-9``);
    ``.../models--Owner--Name/snapshots/...`` (the Hub's cache) gives ``name``.
    """
    return _QUANTISED.sub("", _last_part(name))


def _last_part(name: str) -> str:
    match = _HUB_CACHE.search(name.replace("\\", "/"))
    if match:
        return match["name"].lower()
    path = PurePosixPath(name.replace("\\", "/").rstrip("/").lower())
    above = path.parent.name
    return f"{above}/{path.name}" if above and _ANYTHING.fullmatch(path.name) else path.name


def is_quantised(name: str) -> bool:
    """Whether a name says that this is a quantised copy of a model (``...-bnb-4bit``)."""
    return _QUANTISED.search(_last_part(name)) is not None


def same_base(recorded: str, given: str) -> bool | None:
    """Whether two names mean one base: yes, no, or None when one of them is blank."""
    if not recorded.strip() or not given.strip():
        return None
    return canonical_name(_located(recorded)) == canonical_name(_located(given))


def _located(name: str) -> str:
    """The absolute path of a folder, since ``base`` alone says nothing; a Hub id as it is."""
    return os.path.abspath(name) if os.path.isdir(name) else name


def fingerprint(folder: Path, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Sizes and tokenizer of a model, for people to compare. For a digest of all that results
    depend on, see :func:`settings_digest`.

    Args:
        folder: of the model.
        config: its ``config.json``, if it has been read already.

    Returns:
        The sizes of ``config.json`` by name, and under ``tokenizer`` 16 characters of the digest
        of ``tokenizer.json`` (None without that file). Empty without a readable ``config.json``.
    """
    config = read_config(folder) if config is None else config
    if not config:
        return {}
    text = _text_config(config)
    sizes = {name: text.get(name, config.get(name)) for name in _SIZES}
    tokens = folder / "tokenizer.json"
    return sizes | {"tokenizer": digest_file(tokens)[:16] if tokens.is_file() else None}


def computed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a config that can change what the model computes."""
    return {name: value for name, value in config.items() if name not in _NOT_COMPUTED}


def settings_digest(folder: Path) -> str:
    """Digest (hex) of everything but the weights that a model's results depend on.

    That is ``config.json``, the tokenizer's files, special tokens and chat templates. JSON files
    are compared by their values, so rewriting one does not change the digest.
    ``generation_config.json`` and model cards are not included.

    Raises:
        InputError: a settings file is not JSON.
    """
    parts: list[Any] = [computed(read_config(folder))]
    for name in TOKENIZER_FILES:
        path = folder / name
        inner = sorted(path.iterdir()) if path.is_dir() else [path]
        parts += [(one.name, _content(one)) for one in inner if one.is_file()]
    return digest_of(parts)


def processor_digest(folder: Path) -> str:
    """Digest (hex) of the files that decide what a model is given of a picture.

    Raises:
        InputError: one of them is not JSON.
    """
    there = (folder / name for name in PROCESSOR_FILES)
    return digest_of([(path.name, read_json(path)) for path in there if path.is_file()])


def _content(path: Path) -> Any:
    if path.name not in _TOKENIZER_SETTINGS:
        return digest_file(path)
    value = read_json(path)
    return computed(value) if isinstance(value, dict) else value


def quantised_note(trained_on: str, used_on: str = "") -> str:
    """What a user should know about a checkpoint of a quantised base; "" for others.

    Args:
        trained_on: name of the base, as the checkpoint states it.
        used_on: name of the base that it is merged with; "" if unknown.
    """
    if not is_quantised(trained_on) or is_quantised(used_on):
        return ""
    return (
        f"trained on a quantised base ({trained_on}): what it learnt makes up for that base's "
        "rounding too, so on 16-bit weights it is a little off"
    )


def is_tied(config: Mapping[str, Any], tensors: Iterable[str]) -> bool:
    """Whether input and output embeddings are one tensor.

    ``tie_word_embeddings`` decides. Older versions left it out where it is the architecture's
    default; then a model without a stored head is tied.
    """
    tied = _text_config(config).get("tie_word_embeddings", config.get("tie_word_embeddings"))
    if isinstance(tied, bool):
        return tied
    return not any(name.endswith(HEAD) for name in tensors)


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the language model, also of a vision-language model."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def read_config(folder: Path) -> dict[str, Any]:
    """The content of ``config.json``; empty if it cannot be read."""
    try:
        config = read_json(folder / "config.json")
    except InputError:
        return {}
    return config if isinstance(config, dict) else {}


#: A snapshot in the cache of the Hub: ``models--me--lora-a/snapshots/<commit>``.
_SNAPSHOT = re.compile(r".*/models--(?P<repo>[^/]+)/snapshots/(?P<commit>[^/]+)(?P<rest>/.+)?")
_COMMIT = 8  # characters of a commit in a name
_FILE = Path(".mashup") / "bases.json"
_LEVELS = 6  # folders above a checkpoint that are looked into


def names_of(folder: Path) -> Iterator[str]:
    """Names of a checkpoint's folder, the shortest first: more and more of its path.

    A step is called ``run/checkpoint-N`` at least, a snapshot of the Hub ``owner/name``.
    """
    path = printable(os.path.abspath(folder))
    least = 2 if step_of(folder) is not None else 1
    if "/snapshots/" in path and (match := _SNAPSHOT.fullmatch(path)):
        repo = match["repo"].replace("--", "/")
        rest = (match["rest"] or "").split("/")[1:]
        yield from _tails([repo, *rest], least)
        yield "/".join([f"{repo}@{match['commit'][:_COMMIT]}", *rest])
        yield path
    else:
        yield from _tails(path.split("/"), least)


def _tails(parts: Sequence[str], least: int) -> Iterator[str]:
    shortest = min(least, len(parts))
    return ("/".join(parts[-count:]) for count in range(shortest, len(parts) + 1))


def unique_names(folders: Sequence[Path], names: Sequence[str]) -> list[str]:
    """The shortest name of each folder that no other has.

    Args:
        folders: different ones; two that are the same keep the same name.
        names: what they are called so far. Only names that two of them share are made longer.
    """
    found = list(names)
    longer = [_longer(folder, name) for folder, name in zip(folders, names, strict=True)]
    changed = True
    while changed:
        shared = Counter(found)
        places = [place for place, name in enumerate(found) if shared[name] > 1]
        more = {place: name for place in places if (name := next(longer[place], ""))}
        for place, name in more.items():
            found[place] = name
        changed = bool(more)
    return found


def _longer(folder: Path, name: str) -> Iterator[str]:
    return (one for one in names_of(folder) if len(one) > len(name))


def named_base(folder: Path) -> str:
    """The base that the nearest ``.mashup/bases.json``, here or above, gives; "" for none."""
    here = folder.absolute()
    for root in (here, *here.parents)[:_LEVELS]:
        name = _matching(read_names(root), str(here.relative_to(root)))
        if name:
            return name
    return ""


def _matching(names: Mapping[str, str], path: str) -> str:
    return next((base for pattern, base in names.items() if fnmatchcase(path, pattern)), "")


def read_names(root: Path) -> dict[str, str]:
    """Pattern to base, empty when nothing is named there."""
    try:
        names = read_json(root / _FILE) if (root / _FILE).is_file() else {}
    except (InputError, OSError):
        return {}
    pairs = names.items() if isinstance(names, dict) else ()
    return {pattern: base for pattern, base in pairs if isinstance(base, str)}


def write_names(root: Path, names: Mapping[str, str]) -> None:
    """Add ``names``, of paths below a library's folder, to those that it has.

    A byte of a path that is not UTF-8 stands in the file as ``?``, which matches any character.

    Raises:
        OutputError: the folder cannot be written.
    """
    patterns = {re.sub("[\udc80-\udcff]", "?", glob.escape(p)): base for p, base in names.items()}
    with disk_errors(root / _FILE):
        (root / _FILE).parent.mkdir(exist_ok=True)
    write_text(root / _FILE, to_json(read_names(root) | patterns))
