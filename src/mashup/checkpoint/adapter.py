"""The weights of a PEFT LoRA folder, from the header alone: modules, shapes and scales.

File and key names are those of PEFT
(https://huggingface.co/docs/peft/developer_guides/checkpoint): weights in
``adapter_model.safetensors`` under ``base_model.model.<module>.lora_A.weight``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mashup.checkpoint.config import CONFIG, AdapterConfig
from mashup.errors import InputError, Problem
from mashup.headers import TensorInfo, read_header

WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
_KEY = re.compile(
    r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.[^.]+)?\.weight$"
)


@dataclass(frozen=True)
class LoraModule:
    """One adapted module: ``A`` is ``(rank, d_in)``, ``B`` is ``(d_out, rank)``, scale is ``s``."""

    name: str
    rank: int
    d_in: int
    d_out: int
    scale: float


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


def read_modules(folder: Path, config: AdapterConfig) -> dict[str, LoraModule]:
    """Module name to shapes and scale, from the header alone.

    Raises:
        InputError: a key that is not LoRA, a missing half, shapes or ranks that disagree.
    """
    path = adapter_weights(folder)
    pairs: dict[str, dict[str, TensorInfo]] = {}
    for key, info in read_header(path).items():
        match = _KEY.match(key)
        if not match:
            fix = "leave this adapter out; only plain LoRA is read so far"
            raise InputError(Problem("not a LoRA tensor", str(path), key, "lora_A, lora_B", fix))
        pairs.setdefault(match["module"], {})[match["side"]] = info
    if not pairs:
        fix = "save it again, or leave it out"
        raise InputError(Problem("no LoRA tensors", str(path), "no tensor", "lora_A, lora_B", fix))
    return {name: _module(path, name, pair, config) for name, pair in sorted(pairs.items())}


def _module(
    path: Path, name: str, pair: dict[str, TensorInfo], config: AdapterConfig
) -> LoraModule:
    if set(pair) != {"A", "B"}:
        found = f"{name} has only lora_{next(iter(pair))}"
        raise InputError(
            Problem("half a LoRA", str(path), found, "lora_A and lora_B", "save it again")
        )
    a, b = pair["A"].shape, pair["B"].shape
    if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
        found, fix = (
            f"{name}: A {list(a)}, B {list(b)}",
            "leave it out; only linear layers are read",
        )
        raise InputError(Problem("shapes disagree", str(path), found, "A (r, in), B (out, r)", fix))
    if a[0] != config.rank_of(name):
        expected = f"rank {config.rank_of(name)} as {CONFIG} says"
        fix = "use the adapter_config.json that was saved with these weights"
        raise InputError(Problem("rank differs", str(path), f"{name}: rank {a[0]}", expected, fix))
    return LoraModule(name, a[0], a[1], b[0], config.scale(name, a[0]))


def module_of(key: str) -> tuple[str, str] | None:
    """``(module, "A" or "B")`` of a tensor name in an adapter file, None for any other name."""
    match = _KEY.match(key)
    return (match["module"], match["side"]) if match else None
