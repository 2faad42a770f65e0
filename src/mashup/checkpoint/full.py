"""A full checkpoint by its settings and headers: tensors, tied weights, what can be averaged.

File names and the index (``weight_map``: tensor to file) are those of transformers
(https://huggingface.co/docs/transformers/big_models).

Tied embeddings are one tensor that is read as the input embedding and as the output head. A merge
keeps what the base has. Where a checkpoint has, or would make, two of the one, or one of the two,
the user must choose: nothing is summed into both, and nothing is dropped.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from mashup.checkpoint.adapter import Adapter
from mashup.checkpoint.identity import HEAD, is_tied
from mashup.checkpoint.safetensors import Stored, not_floats, read_stored, same_bytes
from mashup.checkpoint.vocabulary import EMBEDDINGS
from mashup.errors import InputError, MashupError, Problem, raise_all
from mashup.files import read_json

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_LONGEST_NAME = 255  # bytes of a file name, nearly everywhere
#: Ends of names of what is trained, so is never an integer; buffers may be.
_TRAINED = (".weight", ".bias")
_COPY = "copy or download the folder again"
T = TypeVar("T")


def open_model(folder: Path) -> tuple[dict[str, Any], dict[str, Stored], bool]:
    """Settings, name to place of every tensor, and whether the embeddings are tied.

    Raises:
        InputError: as :func:`read_settings` and :func:`read_tensors`; a head that is not the
            embedding though the settings say so, or none at all where they say that it is another
            tensor.
    """
    settings = read_settings(folder)
    tensors = read_tensors(folder)
    tied = is_tied(settings, tensors)
    raise_all(_head_problems(folder, settings, tensors, tied))
    return settings, tensors, tied


def read_settings(folder: Path) -> dict[str, Any]:
    """``config.json`` of a model whose weights are numbers, not codes for them.

    Raises:
        InputError: ``config.json`` is damaged, or says how the weights were quantised.
    """
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict):
        found, fix = f"a {type(config).__name__}", "copy the folder again"
        raise InputError(Problem("not JSON", str(folder / CONFIG), found, "settings", fix))
    how = config.get("quantization_config")
    if how:
        name = how.get("quant_method", "unknown") if isinstance(how, dict) else "unknown"
        fix = "use the 16-bit weights, or load and save them dequantised (model.dequantize())"
        found, where = f"quantised with {name}", str(folder)
        raise InputError(Problem("quantised weights", where, found, "16- or 32-bit weights", fix))
    return config


def read_tensors(folder: Path) -> dict[str, Stored]:
    """Name to place of every tensor of a full checkpoint.

    Raises:
        InputError: no weights, a pickle, an index that is wrong, shards that are missing or
            damaged, a tensor that is quantised; all of them at once.
    """
    if (folder / WEIGHTS).exists():
        tensors = read_stored(folder / WEIGHTS)
    elif (folder / INDEX).exists():
        tensors = _sharded(folder, folder / INDEX)
    else:
        raise InputError(_no_weights(folder))
    raise_all(not_floats(s) for n, s in tensors.items() if n.endswith(_TRAINED))
    return tensors


def _no_weights(folder: Path) -> Problem:
    pickle = next((folder / name for name in PICKLES if (folder / name).exists()), None)
    if pickle is None:
        fix = "copy the weights next to config.json, or leave this folder out"
        return Problem("no model weights", str(folder), f"no {WEIGHTS}", WEIGHTS, fix)
    fix = "write safetensors next to it with 'mashup convert', or set `allow_pickle` in merge"
    found = "a .bin file, which can run code"
    return Problem("pickle refused", str(pickle), found, WEIGHTS, fix)


def _sharded(folder: Path, index: Path) -> dict[str, Stored]:
    placed = _weight_map(index)
    shards: dict[str, dict[str, Stored]] = {}
    problems: list[Problem] = []
    for name in sorted(set(placed.values())):
        try:
            shards[name] = read_stored(_inside(folder, name, index))
        except MashupError as error:
            problems += error.problems
    problems += _disagreements(index, placed, shards)
    if problems:
        raise InputError(*problems)
    return {name: shards[shard][name] for name, shard in placed.items()}


def _weight_map(index: Path) -> dict[str, str]:
    content = read_json(index)
    placed = content.get("weight_map") if isinstance(content, dict) else None
    expected = "metadata, and a weight_map of tensor names to file names"
    if not isinstance(placed, dict) or not placed or not _all_text(placed.values()):
        raise InputError(Problem("damaged index", str(index), "no map", expected, _COPY))
    if not isinstance(content.get("metadata", {}), dict):
        raise InputError(Problem("damaged index", str(index), "bad metadata", expected, _COPY))
    return placed


def _all_text(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) and value for value in values)


def _inside(folder: Path, name: str, index: Path) -> Path:
    """The shard's path; a name that leads out of the folder is not followed."""
    if Path(name).name != name or not name.isprintable() or "\\" in name:
        expected = "names of files in the same folder"
        raise InputError(Problem("damaged index", str(index), name[:120], expected, _COPY))
    path = folder / name
    if len(os.fsencode(name)) > _LONGEST_NAME or not path.exists():
        raise InputError(Problem("missing shard", str(path), "no such file", "a shard", _COPY))
    return path


def _disagreements(
    index: Path, placed: dict[str, str], shards: dict[str, dict[str, Stored]]
) -> list[Problem]:
    """Tensors that the index puts where they are not, and tensors that it does not know."""
    where, expected = str(index), "the tensors that its shards hold"
    lost = [n for n, shard in placed.items() if shard in shards and n not in shards[shard]]
    extra = [n for s, held in shards.items() for n in held if placed.get(n) != s]
    found = [f"{n} is not in {placed[n]}" for n in lost[:1]]
    found += [f"{n} is not in the index" for n in extra[:1] if n not in placed]
    found += [f"{n} is in two shards" for n in extra[:1] if n in placed]
    return [Problem("damaged index", where, text, expected, _COPY) for text in found]


def untied(tensors: Mapping[str, T], *, tied: bool) -> dict[str, T]:
    """Tensors without the head of a tied model, which repeats its embedding."""
    return {name: one for name, one in tensors.items() if not (tied and name.endswith(HEAD))}


def _head_problems(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Stored], tied: bool
) -> list[Problem]:
    """A head that transformers would use, or start at random, though nobody means it to.

    Of a tied model with two different tensors transformers 5 uses both, and 4 only one.
    """
    head = next((one for name, one in tensors.items() if name.endswith(HEAD)), None)
    embedding = next((one for name, one in tensors.items() if name.endswith(EMBEDDINGS)), None)
    where, expected = str(folder), "what tie_word_embeddings in config.json says"
    if tied and head and embedding and not same_bytes(head, embedding):
        found = f"{head.name} and {embedding.name} are tied, and stored as two different tensors"
        fix = "set tie_word_embeddings to false if both were trained, or remove the head"
        return [Problem("head does not fit its settings", where, found, expected, fix)]
    named = config.get("architectures")
    causal = isinstance(named, list) and any(str(one).endswith("ForCausalLM") for one in named)
    other = any("head" in name or "embed_out" in name for name in tensors)
    if causal and embedding and not (tied or other):
        found = "no output head, and embeddings that are not tied: it would start at random numbers"
        fix = "save the whole model again, or set tie_word_embeddings to true if it was trained so"
        return [Problem("head does not fit its settings", where, found, expected, fix)]
    return []


def breaks_tie(names: Iterable[str], base: Iterable[str], *, whole: bool, tied: bool) -> bool:
    """Whether a checkpoint's embedding and head are two where the base's are one, or one for two.

    In a tied model a LoRA or a saved module changes one of the pair and leaves the other.

    Args:
        names: of the base's tensors that it changes, a tied model's without the head.
        base: names of the base's tensors, likewise.
        whole: whether it is a model.
        tied: whether the base is.
    """
    if whole:
        return _has_head(names) != _has_head(base)
    return tied and any(name.endswith((HEAD, *EMBEDDINGS)) for name in names)


def _has_head(names: Iterable[str]) -> bool:
    return any(name.endswith(HEAD) for name in names)


def changed_apart(adapter: Adapter) -> list[str]:
    """Names of what an adapter changes in one of a tied pair alone.

    A LoRA, and a module that PEFT keeps as a copy, leave the other as it was; a value that is
    written into the base, and rows of the embedding, change both.
    """
    loras = [module.tensor for module in adapter.modules.values()]
    heads = [n for n in (*adapter.saved, *adapter.rows, *adapter.biases) if n.endswith(HEAD)]
    return [*loras, *adapter.copied, *heads]


def tie_problem(where: str, *, tied: bool) -> Problem:
    """The choice that is to be made about a checkpoint that breaks a tie."""
    found = "an output head of its own" if tied else "a head that is tied to the embedding"
    expected = "tied embeddings as in the base" if tied else "an untied head as in the base"
    fix = (
        "leave it out, or merge it with `untie`, which writes a model with a separate output head "
        "(tied parents give their embedding twice), or as a LoRA with `output_kind` lora"
    )
    return Problem("tied weights differ", where, found, expected, fix)


def with_head(tensors: Mapping[str, T]) -> dict[str, T]:
    """Tensors of a tied model with the embedding as the head as well."""
    embedding = next((name for name in tensors if name.endswith(EMBEDDINGS)), None)
    if embedding is None or _has_head(tensors):
        return dict(tensors)
    return {**tensors, HEAD: tensors[embedding]}


def average_problem(name: str, value: Stored, kept: Stored) -> Problem | None:
    """The problem of integers, booleans or 8-bit floats that are not as in the model that is kept.

    A merge can neither average them nor, where models disagree, just copy those of one.
    """
    if (value.info.is_float and kept.info.is_float) or same_bytes(value, kept):
        return None
    found = f"{name} of type {value.dtype}, not as in {kept.path.parent}"
    expected = "the same in all, or weights of 16 bits or more"
    fix = "save quantised weights dequantised; make buffers equal, or leave this parent out"
    return Problem("tensor cannot be averaged", str(value.path), found, expected, fix)
