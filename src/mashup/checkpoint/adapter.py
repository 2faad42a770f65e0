"""What a PEFT LoRA folder says of itself: settings, modules, shapes and scales.

File names, key names and pattern rules are those of PEFT
(https://huggingface.co/docs/peft/developer_guides/checkpoint): weights in
``adapter_model.safetensors`` under ``base_model.model.<module>.lora_A.weight``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mashup.checkpoint.refusals import refusal
from mashup.errors import InputError, Problem
from mashup.files import read_json
from mashup.headers import TensorInfo, read_header

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
_KEY = re.compile(
    r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.[^.]+)?\.weight$"
)


@dataclass(frozen=True)
class AdapterConfig:
    """The settings of a LoRA adapter that decide what its weights mean."""

    base: str
    revision: str | None
    rank: int
    alpha: float
    rslora: bool = False
    fan_in_fan_out: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)

    def scale(self, module: str, rank: int) -> float:
        """``s`` in ``W + s·B·A``: alpha/r, or alpha/sqrt(r) for rsLoRA (arXiv 2312.03732)."""
        alpha = _match(self.alpha_pattern, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.rslora else rank)

    def rank_of(self, module: str) -> int:
        """The rank that the settings give ``module``."""
        return int(_match(self.rank_pattern, module, self.rank))


@dataclass(frozen=True)
class LoraModule:
    """One adapted module: ``A`` is ``(rank, d_in)``, ``B`` is ``(d_out, rank)``, scale is ``s``."""

    name: str
    rank: int
    d_in: int
    d_out: int
    scale: float


def _match(patterns: Mapping[str, float], module: str, default: float) -> float:
    """First pattern that matches the end of the module's name, as PEFT matches it."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Read ``adapter_config.json``.

    Raises:
        InputError: missing, not JSON, or an adapter that is not plain additive LoRA.
    """
    path = folder / CONFIG
    config = read_json(path)
    refused = refusal(config)
    if refused:
        raise InputError(Problem("not a plain LoRA", str(path), refused[0], "LoRA", refused[1]))
    return AdapterConfig(
        base=(config.get("base_model_name_or_path") or "").strip(),
        revision=config.get("revision"),
        rank=int(config["r"]),
        alpha=float(config["lora_alpha"]),
        rslora=bool(config.get("use_rslora")),
        fan_in_fan_out=bool(config.get("fan_in_fan_out")),
        rank_pattern=config.get("rank_pattern") or {},
        alpha_pattern=config.get("alpha_pattern") or {},
    )


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
    raise InputError(Problem("no adapter weights", str(folder), f"no {WEIGHTS}", WEIGHTS))


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
        raise InputError(Problem("no LoRA tensors", str(path), "an empty file", "lora_A, lora_B"))
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
        found = f"{name}: A {list(a)}, B {list(b)}"
        raise InputError(Problem("shapes disagree", str(path), found, "A (r, in), B (out, r)"))
    if a[0] != config.rank_of(name):
        expected = f"rank {config.rank_of(name)} as {CONFIG} says"
        fix = "use the adapter_config.json that was saved with these weights"
        raise InputError(Problem("rank differs", str(path), f"{name}: rank {a[0]}", expected, fix))
    return LoraModule(name, a[0], a[1], b[0], config.scale(name, a[0]))


def module_of(key: str) -> tuple[str, str] | None:
    """``(module, "A" or "B")`` of a tensor name in an adapter file, None for any other name."""
    match = _KEY.match(key)
    return (match["module"], match["side"]) if match else None
