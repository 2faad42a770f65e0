"""Pickled weights to safetensors, next to them, without running any code of the pickle."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mashup._merge.shards import open_shards, plan_shards
from mashup.checkpoint import adapter, full
from mashup.checkpoint.identity import HEAD, is_tied, named_base, read_config, write_names
from mashup.checkpoint.safetensors import TensorInfo
from mashup.checkpoint.vocabulary import EMBEDDINGS
from mashup.errors import InputError, OutputError, Problem, UsageError
from mashup.files import digest_file, digest_of, read_json, require_folder, stamp, user_cache
from mashup.library.sources import kind_of_source
from mashup.outputs import disk_errors, move, only_one, temporary_folder
from mashup.strict import check_plain
from mashup.weights import SAFETENSORS

_BIN_INDEX = "pytorch_model.bin.index.json"
_SETTINGS = (".json", ".jinja", ".model", ".txt", ".md", ".py")


def convert(folder: str | Path) -> list[Path]:
    """Write ``*.safetensors`` next to the pickled weights of a LoRA or a full checkpoint.

    Read with ``torch.load(weights_only=True)``, which builds tensors and plain containers only.
    A head that shares the embedding's memory is not written twice.

    Returns:
        The files that were written; none when the folder has safetensors already.

    Raises:
        UsageError: a checkpoint of the Hub: nothing is written into its cache.
        InputError: no weights at all, or a pickle that holds more than weights.
    """
    if kind_of_source(folder):
        fix = "fetch it first: hf download OWNER/NAME --revision COMMIT --local-dir FOLDER"
        raise UsageError(
            Problem("nowhere to write", str(folder), "not a folder", "a folder of yours", fix)
        )
    folder = Path(folder)
    if not pickles_of(folder):
        return []
    with only_one(folder), disk_errors(folder):
        if not pickles_of(folder):  # another command has just converted it
            return []
        with temporary_folder(folder / "weights") as part:
            return _move(_write(folder, part), folder)


def _move(files: list[Path], folder: Path) -> list[Path]:
    """Give finished files their names, the index last: without it shards are nothing yet."""
    index = files[0].with_name(full.INDEX)
    for path in [*files, *([index] if index.exists() else [])]:
        move(path, folder / path.name)
    return [folder / path.name for path in files]


def pickles_of(folder: Path) -> list[Path]:
    """The pickled weights of a folder that has no safetensors; empty when it needs none.

    Raises:
        InputError: the folder has no weights.
    """
    require_folder(folder)
    if any((folder / name).exists() for name in (adapter.WEIGHTS, full.WEIGHTS, full.INDEX)):
        return []
    if (folder / adapter.PICKLE).exists():
        return [folder / adapter.PICKLE]
    if (folder / _BIN_INDEX).exists():
        placed = read_json(folder / _BIN_INDEX).get("weight_map", {})
        return [folder / Path(name).name for name in sorted(set(placed.values()))]
    if (folder / full.PICKLES[0]).exists():
        return [folder / full.PICKLES[0]]
    fix = "give the folder that holds adapter_model.bin or pytorch_model.bin"
    raise InputError(Problem("no pickled weights", str(folder), "none", "a .bin file", fix))


def converted(folder: Path) -> Path:
    """A copy of a pickled checkpoint in safetensors, in the user's cache; for ``allow_pickle``.

    Remembered by the path, and by the stamps of the pickles and of all that is copied with them.
    A folder without pickles is itself.

    Raises:
        InputError: as :func:`convert`.
        OutputError: there is no cache that can be written.
    """
    sources = pickles_of(folder)
    if not sources:
        return folder
    files = [*sources, *_settings(folder)]
    place = folder.resolve()
    # What changed just now is called by its content: its stamp might be that of the next change.
    known = stamp({p.name: p.stat() for p in files}) or [digest_file(p) for p in files]
    key = digest_of(os.fsencode(place).hex(), known)[:16]
    # the last two names are the source's, since run/checkpoint-N is what a checkpoint is called
    with _cache_errors():
        copy = user_cache() / "converted" / key / place.parent.name / place.name
        copy.parent.mkdir(parents=True, exist_ok=True)
    with only_one(copy, wait=True):
        if not copy.exists():
            with temporary_folder(copy) as made, disk_errors(copy):
                _write(folder, made)
                _copy_settings(folder, made)
                move(made, copy)
    if base := named_base(folder):
        write_names(copy.parent, {copy.name: base})
    return copy


@contextlib.contextmanager
def _cache_errors() -> Iterator[None]:
    """Without a cache there is no place for a copy: no home, or one that cannot be written."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        where = str(getattr(error, "filename", None) or "the user's cache")
        fix = "set XDG_CACHE_HOME to a folder that can be written, or run 'mashup convert' first"
        raise OutputError(
            Problem("could not write", where, str(error), "room for a converted copy", fix)
        ) from error


def _settings(folder: Path) -> list[Path]:
    """Files next to the weights that say what these are: settings, tokenizer, card."""
    found = (p for p in folder.iterdir() if p.suffix in _SETTINGS and p.is_file())
    return sorted(path for path in found if path.name != _BIN_INDEX)


def _copy_settings(source: Path, output: Path) -> None:
    for path in _settings(source):
        if not (output / path.name).exists():
            shutil.copyfile(path, output / path.name)


def _write(source: Path, output: Path) -> list[Path]:
    """One safetensors file for a LoRA, shards of the usual size for a model."""
    tensors: dict[str, Tensor] = {}
    for path in pickles_of(source):
        tensors |= _load(path)
    kept = _without_tied_head(tensors, read_config(source))
    infos = {n: TensorInfo(SAFETENSORS[t.dtype], tuple(t.shape)) for n, t in kept.items()}
    lora = (source / adapter.PICKLE).exists()
    shards = plan_shards(infos, single=adapter.WEIGHTS if lora else full.WEIGHTS)
    with disk_errors(output), open_shards(output, shards) as writer:
        for name, tensor in kept.items():
            writer.write(name, 0, tensor.reshape(-1) if tensor.dim() == 0 else tensor)
    return [output / shard.file for shard in shards]


def _load(path: Path) -> Mapping[str, Tensor]:
    try:
        check_plain(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        found = " ".join(str(error).split())[:200]
        fix = "if you trust it, load and save it yourself with safe_serialization=True"
        raise InputError(Problem("cannot read pickle", str(path), found, "weights", fix)) from error
    if not isinstance(content, Mapping) or not _are_tensors(content):
        fix = "give the file that the trainer saved as the model's weights"
        found = f"a {type(content).__name__} of other things"
        raise InputError(Problem("cannot read pickle", str(path), found, "tensors by name", fix))
    return content


def _are_tensors(content: Mapping[Any, Any]) -> bool:
    return bool(content) and all(
        isinstance(name, str) and isinstance(value, Tensor) and value.dtype in SAFETENSORS
        for name, value in content.items()
    )


def _without_tied_head(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """All but a head that is the embedding itself, where no settings say that it is its own."""
    if not is_tied(config, ()):
        return dict(tensors)
    places = [(t.data_ptr(), t.shape) for n, t in tensors.items() if n.endswith(EMBEDDINGS)]
    return {
        n: t
        for n, t in tensors.items()
        if not (n.endswith(HEAD) and (t.data_ptr(), t.shape) in places)
    }
