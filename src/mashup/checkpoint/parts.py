"""The parts of an adapter's file: every tensor named, then put together with its fellows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from mashup.checkpoint.config import CONFIG, AdapterConfig
from mashup.checkpoint.keys import Key, read_key
from mashup.checkpoint.modules import Kind, LoraModule, lora_module, parameter_names
from mashup.checkpoint.stored import Stored, not_floats, read_stored
from mashup.errors import InputError, Problem, raise_all

_Halves = dict[tuple[str, int, Kind], dict[str, Stored]]


def read_keys(path: Path, config: AdapterConfig) -> list[tuple[Key, Stored]]:
    """What every tensor of the file is, and where.

    Raises:
        InputError: a tensor of no known kind, one that is there twice, no LoRA at all.
    """
    keys: list[tuple[Key, Stored]] = []
    for name, info in read_stored(path).items():
        key = read_key(name, config)
        if key is None:
            fix = f"leave this adapter out, or use the {CONFIG} that was saved with it"
            expected = "LoRA, or what modules_to_save, bias and the like name"
            raise InputError(Problem("not a LoRA tensor", str(path), name, expected, fix))
        keys.append((key, info))
    raise_all(not_floats(info) for key, info in keys if key.part != "spare")
    parts = Counter(key for key, _ in keys if key.part != "spare")
    if twice := [key for key, count in parts.items() if count > 1]:
        fix = "save one adapter to a file"
        raise InputError(Problem("tensor twice", str(path), twice[0].module, "each once", fix))
    if not any(key.part in ("A", "B", "eA", "eB") for key, _ in keys):
        fix = "save it again, or leave it out"
        raise InputError(Problem("no LoRA tensors", str(path), "none", "lora_A, lora_B", fix))
    return keys


def read_loras(
    path: Path, keys: list[tuple[Key, Stored]], config: AdapterConfig
) -> dict[str, LoraModule]:
    """Name to LoRA, sorted."""
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


def read_rows(
    path: Path, keys: list[tuple[Key, Stored]], config: AdapterConfig
) -> dict[str, tuple[tuple[int, ...], Stored]]:
    """Weight of an embedding or a head to token ids and their new rows.

    Raises:
        InputError: not as many rows as the settings name tokens.
    """
    found = {key.module: info for key, info in keys if key.part == "rows"}
    return {f"{name}.weight": _rows(path, name, info, config) for name, info in found.items()}


def _rows(
    path: Path, module: str, info: Stored, config: AdapterConfig
) -> tuple[tuple[int, ...], Stored]:
    ids = config.tokens_of(module)
    if ids is None or len(info.shape) != 2 or info.rows != len(ids):
        found = f"{module}: {list(info.shape)} for {len(ids or ())} tokens"
        fix = "use the adapter_config.json that was saved with these weights"
        expected = "one row for each of trainable_token_indices"
        raise InputError(Problem("shapes disagree", str(path), found, expected, fix))
    return ids, info


def read_biases(
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
