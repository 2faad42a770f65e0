"""The weights of a whole model's folder, from headers alone: one file, or shards with an index.

File names and the index (``weight_map``: tensor to file) are those of transformers
(https://huggingface.co/docs/transformers/big_models).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mashup.checkpoint.stored import Stored, not_floats, read_stored
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


def read_tensors(folder: Path) -> dict[str, Stored]:
    """Name to place of every tensor of a whole model.

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
        fix = "copy the weights beside config.json, or leave this folder out"
        return Problem("no model weights", str(folder), f"no {WEIGHTS}", WEIGHTS, fix)
    fix = "write safetensors beside it with 'mashup convert', or pass --allow-pickle to merge"
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
