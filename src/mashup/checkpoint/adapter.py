"""The weights of a PEFT LoRA folder, from the header alone: what changes, by how much, where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mashup.checkpoint.config import CONFIG, AdapterConfig
from mashup.checkpoint.coverage import coverage_problems, unmatched_names
from mashup.checkpoint.modules import Layout, LoraModule
from mashup.checkpoint.parts import read_biases, read_keys, read_loras, read_rows
from mashup.checkpoint.stored import Stored
from mashup.errors import InputError, Problem, raise_all

__all__ = ["CONFIG", "PICKLE", "WEIGHTS", "Adapter", "Layout", "LoraModule", "read_adapter"]

WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"


@dataclass(frozen=True)
class Adapter:
    """All that a LoRA folder changes in its base, by place, unread.

    The base's new tensor is its old one, or its ``saved`` value, with its ``rows`` put in and
    the LoRA of its module added.

    Attributes:
        modules: module (or parameter) name to factors.
        saved: name of a base tensor to its new value (``modules_to_save``, trained biases,
            an embedding that was saved whole).
        copied: those of ``saved`` that PEFT loads into a copy of their module, so that a tensor
            tied to one keeps its old value; the others it loads into the base itself, where
            what is tied changes too.
        originals: name of a ``copied`` tensor to what PEFT loads into the base under the copy,
            which only what is tied to it computes with: written when a vocabulary was resized.
        rows: name of an embedding's or a head's weight to token ids and their new rows
            ``(ids, dim)`` (``trainable_token_indices``).
        biases: ``<module>.bias`` to ``s`` and ``(d_out,)``: ``s·bias`` is added to the output
            (``lora_bias``), also where the base has no bias.
        unmatched: names in the settings that no tensor bears: a note, not an error.
    """

    modules: Mapping[str, LoraModule]
    saved: Mapping[str, Stored] = field(default_factory=dict)
    copied: frozenset[str] = frozenset()
    originals: Mapping[str, Stored] = field(default_factory=dict)
    rows: Mapping[str, tuple[tuple[int, ...], Stored]] = field(default_factory=dict)
    biases: Mapping[str, tuple[float, Stored]] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()


def adapter_weights(folder: Path) -> Path:
    """The safetensors file of an adapter.

    Raises:
        InputError: there is none, or only a pickle.
    """
    path = folder / WEIGHTS
    if path.exists():
        return path
    if (folder / PICKLE).exists():
        fix = "write safetensors beside it with 'mashup convert', or pass --allow-pickle to merge"
        where = str(folder / PICKLE)
        raise InputError(
            Problem("pickle refused", where, "a .bin file, which can run code", WEIGHTS, fix)
        )
    fix = "copy the weights beside adapter_config.json, or leave this folder out"
    raise InputError(Problem("no adapter weights", str(folder), f"no {WEIGHTS}", WEIGHTS, fix))


def read_adapter(folder: Path, config: AdapterConfig) -> Adapter:
    """What the folder changes in its base, from the header alone.

    Raises:
        InputError: a tensor of no known kind, a missing half, shapes or ranks that disagree,
            weights and settings that speak of other modules (:mod:`.coverage`).
    """
    path = adapter_weights(folder)
    keys = read_keys(path, config)
    modules = read_loras(path, keys, config)
    saved = {key.module: info for key, info in keys if key.part in ("copied", "written")}
    copied = frozenset(key.module for key, _ in keys if key.part == "copied")
    originals = {key.module: info for key, info in keys if key.part == "original"}
    rows = read_rows(path, keys, config)
    places = (copied, [name.removesuffix(".weight") for name in rows])
    raise_all(coverage_problems(path, config, modules, *places))
    biases = read_biases(path, keys, modules, config)
    unmatched = unmatched_names(config, modules, *places)
    return Adapter(modules, saved, copied, originals, rows, biases, unmatched)
