"""LoRA modules put together from their halves, with shapes, ranks and scales checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mashup.checkpoint.config import CONFIG, AdapterConfig
from mashup.checkpoint.stored import Stored
from mashup.errors import InputError, Problem

#: How the factors change the base's tensor ``W``: ``linear`` is ``W (d_out, d_in) += s·B·A``,
#: ``transposed`` (embeddings; GPT-2's Conv1D) is ``W (d_in, d_out) += (s·B·A)ᵀ``.  ``experts``
#: is ``W (E, d_out, d_in) += s·Σ_r B[:, r, e]·A[e, r, :]`` with ``A`` as ``(E, r, d_in)`` and
#: ``B`` as ``(d_out, r, E)``, and ``experts_transposed`` the same for ``W (E, d_in, d_out)``.
#: A file does not tell the last two apart: see :func:`mashup.checkpoint.experts.laid_out`.
Layout = Literal["linear", "transposed", "experts", "experts_transposed"]
#: What is adapted: the output of a linear layer, of an embedding, or a parameter itself
#: (PEFT's ``target_parameters``).
Kind = Literal["linear", "embedding", "parameter"]


@dataclass(frozen=True)
class LoraModule:
    """One adapted module: ``A`` is ``(rank, d_in)``, ``B`` is ``(d_out, rank)``, scale is ``s``.

    Of an embedding ``d_in`` is the vocabulary. Of stacked experts ``A`` is
    ``(experts · rank, d_in)`` with whole experts after each other, and ``B`` is
    ``(d_out, rank · experts)`` with the experts side by side for each rank. ``A`` and ``B``
    tell where they lie.

    ``name`` is the module's name; of a parameter that is adapted itself, the parameter's.
    """

    name: str
    rank: int
    d_in: int
    d_out: int
    scale: float
    layout: Layout
    A: Stored = field(compare=False, repr=False)
    B: Stored = field(compare=False, repr=False)
    kind: Kind = "linear"
    experts: int = 1

    @property
    def tensor(self) -> str:
        """Name of the base's tensor that it changes."""
        return self.name if self.kind == "parameter" else f"{self.name}.weight"


def lora_module(
    path: Path, name: str, kind: Kind, halves: Mapping[str, Stored], config: AdapterConfig
) -> LoraModule:
    """The module of two halves ``A`` and ``B``.

    Raises:
        InputError: half of it is missing, shapes that do not multiply, another rank than the
            settings say.
    """
    both = _both(path, name, halves)
    a, b = both["A"].shape, both["B"].shape
    if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
        found = f"{name}: A {list(a)}, B {list(b)}"
        fix = "leave it out; convolutions and shards of FSDP or ZeRO-3 are not read"
        raise InputError(Problem("shapes disagree", str(path), found, "A (r, in), B (out, r)", fix))
    rank, experts = config.rank_of(name), 1
    if kind == "parameter" and a[0] > rank > 0 and a[0] % rank == 0:
        experts = a[0] // rank
    if a[0] != rank * experts:
        expected = f"rank {rank} as {CONFIG} says"
        fix = "use the adapter_config.json that was saved with these weights"
        raise InputError(Problem("rank differs", str(path), f"{name}: rank {a[0]}", expected, fix))
    layout = _layout(kind, experts, config)
    scale = config.scale(name, rank)
    return LoraModule(name, rank, a[1], b[0], scale, layout, both["A"], both["B"], kind, experts)


def _both(path: Path, name: str, halves: Mapping[str, Stored]) -> Mapping[str, Stored]:
    if {"A", "B"} <= set(halves):
        return halves
    found = f"{name} has only lora_{'A' if 'A' in halves else 'B'}"
    raise InputError(Problem("half a LoRA", str(path), found, "lora_A and lora_B", "save it again"))


def _layout(kind: Kind, experts: int, config: AdapterConfig) -> Layout:
    if experts > 1:
        return "experts"
    is_transposed = kind == "embedding" or (kind == "linear" and config.fan_in_fan_out)
    return "transposed" if is_transposed else "linear"


#: The order in which transformers' stacked experts hold their parameters, which is the order in
#: which PEFT wraps them: the first is the innermost. PEFT's own conversion of older adapters
#: relies on it (``transformers_weight_conversion``). Held against the base where one is loaded.
_INNERMOST_FIRST = (
    *("gate_proj", "up_proj", "gate_up_proj", "gate_up_proj_bias"),
    *("down_proj", "down_proj_bias"),
)


def parameter_names(
    path: Path, module: str, depths: Collection[int], config: AdapterConfig
) -> dict[int, str]:
    """Which of ``target_parameters`` each level of wrapping on a module is: depth to full name.

    PEFT wraps one parameter after another in the order in which the module holds them, and
    the file tells only the depth. One parameter needs no order; several are told apart by
    the names that transformers gives to stacked experts.

    Raises:
        InputError: more or fewer levels than parameters, or names whose order is not known.
    """
    names = _candidates(module, len(depths), config)
    leaves = [name.rpartition(".")[2] for name in names]
    known = len(names) == 1 or set(leaves) <= set(_INNERMOST_FIRST)
    if len(names) != len(depths) or not known or set(depths) != set(range(len(depths))):
        found = f"{module}: {len(depths)} LoRAs for {', '.join(leaves) or 'no parameter'}"
        expected = f"one LoRA for each of target_parameters, as {CONFIG} says"
        fix = "merge it into the base with PEFT (merge_and_unload)"
        raise InputError(Problem("cannot tell parameters apart", str(path), found, expected, fix))
    if len(names) == 1:
        return {0: names[0]}
    inner = sorted(names, key=lambda name: _INNERMOST_FIRST.index(name.rpartition(".")[2]))
    return dict(enumerate(reversed(inner)))


def _candidates(module: str, count: int, config: AdapterConfig) -> list[str]:
    """The names that the settings may mean on this module; exact ones alone if they are enough."""
    found = config.targets.parameters_of(module)
    exact = [name for name, is_exact in found.items() if is_exact]
    return sorted(exact if len(exact) == count else found)
