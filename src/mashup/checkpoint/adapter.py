"""The weights of a PEFT LoRA folder, from the header alone: modules, shapes and scales.

File and key names are those of PEFT
(https://huggingface.co/docs/peft/developer_guides/checkpoint): weights in
``adapter_model.safetensors`` under ``base_model.model.<module>.lora_A.weight``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mashup.checkpoint.config import CONFIG, AdapterConfig
from mashup.checkpoint.stored import Stored, not_floats, read_stored
from mashup.errors import InputError, Problem, raise_all

WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
_KEY = re.compile(
    r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.[^.]+)?\.weight$"
)


#: How the factors change the base's tensor ``W``: ``linear`` is ``W (d_out, d_in) += s·B·A``,
#: ``transposed`` (embeddings; GPT-2's Conv1D) is ``W (d_in, d_out) += (s·B·A)ᵀ``.
Layout = Literal["linear", "transposed"]


@dataclass(frozen=True)
class LoraModule:
    """One adapted module: ``A`` is ``(rank, d_in)``, ``B`` is ``(d_out, rank)``, scale is ``s``.

    ``A`` and ``B`` tell where they lie.
    """

    name: str
    rank: int
    d_in: int
    d_out: int
    scale: float
    layout: Layout
    A: Stored = field(compare=False, repr=False)
    B: Stored = field(compare=False, repr=False)

    @property
    def tensor(self) -> str:
        """Name of the base's tensor that it changes."""
        return f"{self.name}.weight"


@dataclass(frozen=True)
class Adapter:
    """All that a LoRA folder changes in its base, by place, unread.

    Attributes:
        modules: module name to factors.
        saved: name of a base tensor to its new value (``modules_to_save``, trained biases).
    """

    modules: Mapping[str, LoraModule]
    saved: Mapping[str, Stored] = field(default_factory=dict)


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
        InputError: a key that is not LoRA, a missing half, shapes or ranks that disagree.
    """
    return Adapter(read_modules(folder, config))


def read_modules(folder: Path, config: AdapterConfig) -> dict[str, LoraModule]:
    """Module name to shapes and scale, from the header alone.

    Raises:
        InputError: as :func:`read_adapter`.
    """
    path = adapter_weights(folder)
    pairs: dict[str, dict[str, Stored]] = {}
    stored = read_stored(path)
    raise_all(map(not_floats, stored.values()))
    for key, info in stored.items():
        match = _KEY.match(key)
        if not match:
            fix = "leave this adapter out; only plain LoRA is read so far"
            raise InputError(Problem("not a LoRA tensor", str(path), key, "lora_A, lora_B", fix))
        pairs.setdefault(match["module"], {})[match["side"]] = info
    if not pairs:
        fix = "save it again, or leave it out"
        raise InputError(Problem("no LoRA tensors", str(path), "no tensor", "lora_A, lora_B", fix))
    return {name: _module(path, name, pair, config) for name, pair in sorted(pairs.items())}


def _module(path: Path, name: str, pair: dict[str, Stored], config: AdapterConfig) -> LoraModule:
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
    layout: Layout = "transposed" if config.fan_in_fan_out else "linear"
    scale = config.scale(name, a[0])
    return LoraModule(name, a[0], a[1], b[0], scale, layout, pair["A"], pair["B"])


def module_of(key: str) -> tuple[str, str] | None:
    """``(module, "A" or "B")`` of a tensor name in an adapter file, None for any other name."""
    match = _KEY.match(key)
    return (match["module"], match["side"]) if match else None
