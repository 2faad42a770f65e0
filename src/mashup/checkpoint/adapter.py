"""The weights of a PEFT LoRA folder, from the header alone: what changes, by how much, where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mashup.checkpoint.config import CONFIG, AdapterConfig
from mashup.checkpoint.coverage import coverage_problems, unmatched_names
from mashup.checkpoint.keys import Key, read_key
from mashup.checkpoint.modules import Kind, Layout, LoraModule, lora_module, parameter_names
from mashup.checkpoint.stored import Stored, read_stored
from mashup.errors import InputError, Problem, raise_all

__all__ = ["CONFIG", "PICKLE", "WEIGHTS", "Adapter", "Layout", "LoraModule", "read_adapter"]

WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
_Halves = dict[tuple[str, int, Kind], dict[str, Stored]]


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
        rows: name of an embedding's or a head's weight to token ids and their new rows
            ``(ids, dim)`` (``trainable_token_indices``).
        biases: ``<module>.bias`` to ``s`` and ``(d_out,)``: ``s·bias`` is added to the output
            (``lora_bias``), also where the base has no bias.
        unmatched: names in the settings that no tensor bears: a note, not an error.
    """

    modules: Mapping[str, LoraModule]
    saved: Mapping[str, Stored] = field(default_factory=dict)
    copied: frozenset[str] = frozenset()
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
        fix = "load it once where you trust it and save it with safe_serialization=True"
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
    keys = _keys(path, config)
    modules = _modules(path, keys, config)
    saved = {key.module: info for key, info in keys if key.part in ("copied", "written")}
    copied = frozenset(key.module for key, _ in keys if key.part == "copied")
    rows = {f"{key.module}.weight": _rows(path, key, i, config) for key, i in keys if _is_rows(key)}
    places = (copied, [name.removesuffix(".weight") for name in rows])
    raise_all(coverage_problems(path, config, modules, *places))
    biases = _biases(path, keys, modules, config)
    unmatched = unmatched_names(config, modules, *places)
    return Adapter(modules, saved, copied, rows, biases, unmatched)


def read_modules(folder: Path, config: AdapterConfig) -> dict[str, LoraModule]:
    """Only the LoRA of :func:`read_adapter`."""
    return dict(read_adapter(folder, config).modules)


def _keys(path: Path, config: AdapterConfig) -> list[tuple[Key, Stored]]:
    keys: list[tuple[Key, Stored]] = []
    for name, info in read_stored(path).items():
        key = read_key(name, config)
        if key is None:
            fix = f"leave this adapter out, or use the {CONFIG} that was saved with it"
            expected = "LoRA, or what modules_to_save, bias and the like name"
            raise InputError(Problem("not a LoRA tensor", str(path), name, expected, fix))
        keys.append((key, info))
    parts = Counter(key for key, _ in keys if key.part != "spare")
    if twice := [key for key, count in parts.items() if count > 1]:
        fix = "save one adapter to a file"
        raise InputError(Problem("tensor twice", str(path), twice[0].module, "each once", fix))
    if not any(key.part in ("A", "B", "eA", "eB") for key, _ in keys):
        fix = "save it again, or leave it out"
        raise InputError(Problem("no LoRA tensors", str(path), "none", "lora_A, lora_B", fix))
    return keys


def _modules(
    path: Path, keys: list[tuple[Key, Stored]], config: AdapterConfig
) -> dict[str, LoraModule]:
    halves: _Halves = {}
    for key, info in keys:
        if key.part in ("A", "B", "eA", "eB"):
            kind: Kind = "embedding" if key.part.startswith("e") else "linear"
            halves.setdefault((key.module, key.depth, kind), {})[key.part[-1]] = info
    found = [
        lora_module(path, *_place(path, place, halves, config), pair, config)
        for place, pair in halves.items()
    ]
    return {module.name: module for module in sorted(found, key=lambda module: module.name)}


def _place(
    path: Path, place: tuple[str, int, Kind], halves: _Halves, config: AdapterConfig
) -> tuple[str, Kind]:
    """Name and kind of what is adapted; a module that is no target may hold parameters that are."""
    module, depth, kind = place
    targets = config.targets
    is_target = targets.is_known and targets.match(module)
    if kind == "embedding" or (depth == 0 and (is_target or not targets.has_parameters(module))):
        return module, kind
    depths = [d for name, d, _ in halves if name == module]
    return parameter_names(path, module, depths, config)[depth], "parameter"


def _is_rows(key: Key) -> bool:
    return key.part == "rows"


def _rows(
    path: Path, key: Key, info: Stored, config: AdapterConfig
) -> tuple[tuple[int, ...], Stored]:
    ids = config.tokens_of(key.module)
    if ids is None or len(info.shape) != 2 or info.rows != len(ids):
        found = f"{key.module}: {list(info.shape)} for {len(ids or ())} tokens"
        fix = "use the adapter_config.json that was saved with these weights"
        expected = "one row for each of trainable_token_indices"
        raise InputError(Problem("shapes disagree", str(path), found, expected, fix))
    return ids, info


def _biases(
    path: Path,
    keys: list[tuple[Key, Stored]],
    modules: Mapping[str, LoraModule],
    config: AdapterConfig,
) -> dict[str, tuple[float, Stored]]:
    """``lora_B.bias`` of every linear LoRA, where the settings have it."""
    found = {key.module: info for key, info in keys if key.part == "bias"}
    linear = {name for name, lora in modules.items() if lora.kind == "linear"}
    odd = sorted(linear ^ set(found)) if config.lora_bias else []
    odd += [name for name in linear & set(found) if found[name].shape != (modules[name].d_out,)]
    if odd:
        text, expected = f"{odd[0]}: no fitting lora_B.bias", "lora_A, lora_B and its bias"
        raise InputError(Problem("half a LoRA", str(path), text, expected, "save it again"))
    return {f"{name}.bias": (modules[name].scale, info) for name, info in found.items()}
