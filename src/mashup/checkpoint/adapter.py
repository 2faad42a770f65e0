"""The weights of a PEFT LoRA folder, from the header alone: what changes, by how much, where.

From names to values: every tensor is named (:mod:`.keys`), the two halves of a LoRA are put
together, and settings and weights are compared. PEFT loads what it finds: weights that the
settings do not target are dropped, and a target without weights starts from zero, both without an
error. So both directions are checked.

A name of a list (``target_modules``, ``modules_to_save``, ``target_parameters``) that matches no
tensor is not an error here as long as another name of the list matches one. People write one list
for several architectures, PEFT tolerates it, and it writes such a list itself for sequence
classification. It becomes an error where the base shows that the name should have matched
(:func:`mashup.checkpoint.fit.fit`); until then it is a note (``Adapter.unmatched``).
A pattern, or a list of which no name matches, is an error from the header alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mashup.checkpoint.config import CONFIG, AdapterConfig
from mashup.checkpoint.keys import Key, read_key
from mashup.checkpoint.safetensors import Stored, not_floats, read_stored
from mashup.errors import InputError, Problem, raise_all

WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
_SAME = "use the adapter_config.json that was saved with these weights"
#: How the factors change the base's tensor ``W``: ``linear`` is ``W (d_out, d_in) += s·B·A``,
#: ``transposed`` (embeddings; GPT-2's Conv1D) is ``W (d_in, d_out) += (s·B·A)ᵀ``.  ``experts``
#: is ``W (E, d_out, d_in) += s·Σ_r B[:, r, e]·A[e, r, :]`` with ``A`` as ``(E, r, d_in)`` and
#: ``B`` as ``(d_out, r, E)``, and ``experts_transposed`` the same for ``W (E, d_in, d_out)``.
#: A file does not distinguish the last two: see :func:`mashup.checkpoint.adapter.laid_out`.
Layout = Literal["linear", "transposed", "experts", "experts_transposed"]
#: What is adapted: the output of a linear layer, of an embedding, or a parameter itself
#: (PEFT's ``target_parameters``).
Kind = Literal["linear", "embedding", "parameter"]
_Halves = dict[tuple[str, int, Kind], dict[str, Stored]]


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
        unmatched: names in the settings that match no tensor: a note, not an error.
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
        fix = "write safetensors next to it with 'mashup convert', or set `allow_pickle` in merge"
        where = str(folder / PICKLE)
        raise InputError(
            Problem("pickle refused", where, "a .bin file, which can run code", WEIGHTS, fix)
        )
    fix = "copy the weights next to adapter_config.json, or leave this folder out"
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
    the file has only the depth. One parameter needs no order. Several are distinguished by
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


__all__ = ["CONFIG", "PICKLE", "WEIGHTS", "Adapter", "Layout", "LoraModule", "read_adapter"]


def coverage_problems(
    path: Path,
    config: AdapterConfig,
    modules: Mapping[str, LoraModule],
    copied: Collection[str],
    rows: Collection[str],
) -> list[Problem]:
    """Weights that the settings do not target, and targets without any weights."""
    named, parameters = _split(modules)
    targets = config.targets
    problems = []
    stray = [] if config.tying else [name for name in named if not targets.match(name)]
    if stray:
        found = f"{len(stray)} modules, the first {stray[0]}"
        expected = f"only what target_modules in {CONFIG} names: PEFT drops the rest"
        problems.append(Problem("weights without a target", str(path), found, expected, _SAME))
    wanted = {
        "target_modules": (targets.is_known and targets.modules, named),
        "target_parameters": (targets.parameters, parameters),
        "modules_to_save": (targets.saved, copied),
        "trainable_token_indices": (config.tokens, rows),
    }
    empty = [field for field, (given, found) in wanted.items() if given and not found]
    return problems + [_no_weights(path, field) for field in empty]


def _no_weights(path: Path, field: str) -> Problem:
    found, expected = f"no tensor of {field}", f"weights for {field} in {CONFIG}"
    fix = "save the whole adapter again: without them it is another one"
    return Problem("module without weights", str(path), found, expected, fix)


def unmatched_names(
    config: AdapterConfig,
    modules: Mapping[str, LoraModule],
    copied: Collection[str],
    rows: Collection[str],
) -> tuple[str, ...]:
    """Names in the settings that match no tensor."""
    named, parameters = _split(modules)
    rest = (name for name in config.tokens if not any(row.endswith(name) for row in rows))
    return (*config.targets.unmatched(named, parameters, copied), *rest)


def _split(modules: Mapping[str, LoraModule]) -> tuple[list[str], list[str]]:
    """Names of modules, and names of parameters that are adapted themselves."""
    named = [name for name, lora in modules.items() if lora.kind != "parameter"]
    return named, [name for name, lora in modules.items() if lora.kind == "parameter"]


def laid_out(
    modules: Mapping[str, LoraModule], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, LoraModule]:
    """The modules with the layouts that the base's tensors have.

    transformers stores experts as ``(E, d_out, d_in)``, and those of GPT-OSS and a few more as
    ``(E, d_in, d_out)``. A square parameter is read like its siblings on the same module.

    Args:
        modules: as :func:`mashup.checkpoint.read_adapter` gives them.
        shapes: name to shape of the base's tensors.

    Raises:
        InputError: only square parameters, which say neither.
    """
    turned = {n: t for n, m in modules.items() if (t := _is_turned(m, shapes)) is not None}
    siblings = {name.rpartition(".")[0]: is_turned for name, is_turned in turned.items()}
    made = dict(modules)
    for name, module in modules.items():
        if module.layout != "experts":
            continue
        is_turned = turned.get(name, siblings.get(name.rpartition(".")[0]))
        if is_turned is None:
            raise InputError(_square(module))
        made[name] = replace(module, layout="experts_transposed" if is_turned else "experts")
    return made


def _is_turned(module: LoraModule, shapes: Mapping[str, tuple[int, ...]]) -> bool | None:
    """None when the shape fits both ways, or neither."""
    shape = shapes.get(module.tensor, ())
    if module.experts == 1 or module.d_in == module.d_out:
        return None
    ways = {(module.d_out, module.d_in): False, (module.d_in, module.d_out): True}
    return ways.get(shape[1:]) if len(shape) == 3 else None


def _square(module: LoraModule) -> Problem:
    found = f"{module.d_out} × {module.d_in} for each of {module.experts} experts"
    expected = "a shape that tells rows from columns"
    fix = "load the base, or adapt gate_up_proj as well"
    return Problem("cannot tell the experts' layout", module.name, found, expected, fix)


#: GPT-2's Conv1D keeps weights as ``(d_in, d_out)``, and a LoRA on it does not always say so:
#: PEFT sets ``fan_in_fan_out`` by the last kind of module that it meets. These models and modules
#: have it.
_MODELS = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
_MODULES = ("c_attn", "q_attn", "c_proj", "c_fc")


def is_conv1d(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a module of the model of ``config`` is a Conv1D."""
    return config.get("model_type") in _MODELS and name.rpartition(".")[2] in _MODULES


def turned(modules: Mapping[str, LoraModule], config: Mapping[str, Any]) -> dict[str, LoraModule]:
    """The modules, laid out as the model of ``config`` stores them."""
    if config.get("model_type") not in _MODELS:
        return dict(modules)
    return {name: _turned(module, config) for name, module in modules.items()}


def _turned(module: LoraModule, config: Mapping[str, Any]) -> LoraModule:
    if module.kind != "linear":
        return module
    is_conv = is_conv1d(module.name, config)
    return replace(module, layout="transposed" if is_conv else "linear")
