"""Merge into a LoRA: module by module, exact in factors where the method is a weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mashup._merge.algebra import (
    Spectrum,
    dense_spectrum,
    factorise,
    generator_for,
    rank_for_energy,
    rounding_energy,
    squared,
    weighted_sum,
)
from mashup._merge.changes import spans
from mashup._merge.combine import (
    Energy,
    Recipe,
    Tensors,
    coefficients,
    energy_of,
    load_changes,
    merged_deltas,
    merged_pieces,
    merged_values,
    nothing_left,
    run_all,
)
from mashup._merge.full import FullPlan
from mashup._merge.heads import Heads
from mashup._merge.methods.factor_average import average
from mashup._merge.parents import Parent
from mashup._merge.plan_lora import LoraPlan, Module, Saved
from mashup._merge.shards import ShardWriter, cast, open_shards, plan_shards
from mashup.checkpoint.adapter import WEIGHTS
from mashup.checkpoint.heads import is_head
from mashup.checkpoint.safetensors import TensorInfo
from mashup.delta import Delta, Factors, inner
from mashup.errors import InputError
from mashup.progress import SILENT, Progress
from mashup.weights import SAFETENSORS

#: Relative to its parts, a squared sum this small is the rounding error of parts that cancel.
_NOISE = 1e-24
_ONE_FILE = 1 << 62  # bytes: an adapter is never sharded


@dataclass(frozen=True)
class Written:
    """What was written, and how well it holds the exact merge.

    Attributes:
        rank: of every module that is large enough for it.
        sizes: module name to its rank.
        energy: over all modules, what was left out, and the saved tensors whose base is known.
        left_out: the part of ``energy.total`` that is in no module.
    """

    rank: int
    sizes: Mapping[str, int]
    energy: Energy
    left_out: float = 0.0


def write_lora(
    folder: Path,
    plan: LoraPlan,
    recipe: Recipe,
    dtype: torch.dtype,
    progress: Progress = SILENT,
) -> Written:
    """Merge every module and write ``adapter_model.safetensors``; memory holds a few modules.

    Raises:
        InputError: numbers that are not finite or that ``dtype`` cannot hold, or only zeros.
    """
    rank = plan.rank.of([module.ranks for module in plan.modules])
    rank = rank or _rank_of_energy(plan, recipe)
    sizes = {module.name: module.size(rank) for module in plan.modules}
    infos = _infos(plan, sizes, SAFETENSORS[dtype])
    with (
        open_shards(folder, plan_shards(infos, _ONE_FILE, WEIGHTS)) as writer,
        progress.bar("merging", len(plan.modules)) as advance,
    ):

        def one(module: Module) -> Energy:
            energy = _write_module(module, plan, recipe, sizes[module.name], dtype, writer)
            advance()
            return energy

        energies = run_all(partial(one, module) for module in plan.modules)
        energies += [_write_saved(saved, recipe, dtype, writer) for saved in plan.saved]
    outside = sum(_delta_energy(recipe, tensors) for tensors in plan.left_out)
    total = sum(energies, Energy(total=outside, error=outside))
    known = all(saved.tensors.base is not None for saved in plan.saved)
    if known and total.total <= _NOISE * total.parts:
        raise InputError(nothing_left(recipe))
    return Written(max(sizes.values()), sizes, total, outside)


def _rank_of_energy(plan: LoraPlan, recipe: Recipe) -> int:
    assert plan.rank.share is not None
    jobs = (partial(_merged, module, recipe, None) for module in plan.modules)
    found = [merged.spectrum.S for parts in run_all(jobs) for merged in parts]
    return rank_for_energy(plan.rank.share, found)


def _infos(plan: LoraPlan, sizes: Mapping[str, int], dtype: str) -> dict[str, TensorInfo]:
    infos = {}
    for module in plan.modules:
        rank = sizes[module.name] * module.experts
        infos[module.keys[0]] = TensorInfo(dtype, (rank, module.d_in))
        infos[module.keys[1]] = TensorInfo(dtype, (module.d_out, rank))
    for saved in plan.saved:
        infos[saved.key] = TensorInfo(dtype, saved.tensors.shape)
    return infos


def _write_module(
    module: Module,
    plan: LoraPlan,
    recipe: Recipe,
    size: int,
    dtype: torch.dtype,
    writer: ShardWriter,
) -> Energy:
    """Merge one module, each of its experts by itself, and write A and B."""
    if recipe.method.name == "factor_average":
        exact, energy = _averaged(module, recipe)
    else:
        exact, energy = [], Energy()
        for number, merged in enumerate(_merged(module, recipe, size)):
            name = module.name if module.experts == 1 else f"{module.name}:{number}"
            generator = generator_for(recipe.settings.seed, name)
            exact.append(factorise(merged.spectrum, size, module.scale, plan.style, generator))
            lost = min(merged.total, merged.lost(size))
            energy += Energy(merged.total, merged.total - lost, lost, merged.parts)
    rounded = []
    for one in exact:
        A, B = (cast(half, dtype, module.name) for half in (one.A, one.B))
        rounded.append(Factors(A, B, one.scale))
        energy += Energy(error=rounding_energy(one, rounded[-1]))
    for key, half in zip(module.keys, _joined(rounded), strict=True):
        writer.write(key, 0, half)
    return energy


def _write_saved(saved: Saved, recipe: Recipe, dtype: torch.dtype, writer: ShardWriter) -> Energy:
    """Merge and write one whole tensor."""
    energy, one = Energy(), saved.tensors
    for piece in merged_pieces(recipe, one, compare=one.base is not None):
        made = cast(piece.rows, dtype, saved.key)
        writer.write(saved.key, piece.start, made)
        energy += energy_of(piece, made)
    return energy


def _delta_energy(recipe: Recipe, tensors: Tensors) -> float:
    pieces = merged_deltas(recipe, tensors.in_pieces(recipe.method))
    return sum(squared(rows) for _, _, rows in pieces)


# One module: decomposed in factors where that is exact, else as a dense delta.


@dataclass(frozen=True)
class _Merged:
    """The merged delta of a module, or of one of its experts.

    Attributes:
        spectrum: its largest singular values, or all.
        total: its squared norm.
        parts: ``(Σ |w| ‖δ‖)²`` of what was summed up in factors, else 0.
        dense: the delta itself, float32, where it was made.
    """

    spectrum: Spectrum
    total: float
    parts: float = 0.0
    dense: Tensor | None = None

    def lost(self, rank: int) -> float:
        """``‖Δ - Δ_rank‖²``; measured for a dense delta, whose spectrum is only float32."""
        if self.dense is None:
            return float(self.spectrum.energy[rank:].sum())
        left, right = (self.spectrum.U * self.spectrum.S)[:, :rank], self.spectrum.Vt[:rank]
        pieces = spans(tuple(self.dense.shape))
        return sum(squared(self.dense[a:b].double() - left[a:b] @ right) for a, b in pieces)


def _merged(module: Module, recipe: Recipe, rank: int | None) -> list[_Merged]:
    """The merged delta of a module; one for each expert if it has several."""
    loaded = load_changes(module.tensors)
    if recipe.method.mix and all(one.value is None for one in loaded.values()):
        mixed = coefficients(recipe, module.tensors, loaded)
        loras = [(mixed[i], one.factors.split()) for i, one in loaded.items() if one.factors]
        pairs = [[(c, split[n]) for c, split in loras] for n in range(module.experts)]
        return [_summed(pair) for pair in pairs]
    dense = torch.cat([rows for _, _, rows in merged_deltas(recipe, module.tensors)])
    generator = generator_for(recipe.settings.seed, f"svd:{module.name}")
    made = []
    for one in [dense] if dense.dim() == 2 else list(dense):
        turned = one.T if module.transposed else one
        spectrum = dense_spectrum(turned, rank, generator)
        made.append(_Merged(spectrum, squared(one), dense=turned))
    return made


def _summed(pairs: Sequence[tuple[float, Factors]]) -> _Merged:
    spectrum = weighted_sum(pairs)
    lengths = (abs(weight) * max(0.0, float(inner(f, f))) ** 0.5 for weight, f in pairs)
    return _Merged(spectrum, float(spectrum.energy.sum()), sum(lengths) ** 2)


def _averaged(module: Module, recipe: Recipe) -> tuple[list[Factors], Energy]:
    """The average of the factors, and how far it is from the mean of the deltas."""
    loaded = load_changes(module.tensors)
    loras = [(recipe.weights[i], o.factors.split()) for i, o in loaded.items() if o.factors]
    made, energy = [], Energy()
    for number in range(module.experts):
        pairs = [(weight, split[number]) for weight, split in loras]
        made.append(average(pairs))
        error = weighted_sum([(1.0, made[-1]), *((-weight, f) for weight, f in pairs)])
        exact = _summed(pairs)
        energy += Energy(exact.total, exact.total, float(error.energy.sum()), exact.parts)
    return made, energy


def _joined(experts: Sequence[Factors]) -> tuple[Tensor, Tensor]:
    """``A`` and ``B`` of one module; those of several experts stacked as PEFT stacks them."""
    if len(experts) == 1:
        return experts[0].A, experts[0].B
    A = torch.cat([one.A for one in experts])
    B = torch.stack([one.B for one in experts], dim=2)
    return A, B.reshape(B.shape[0], -1)


# The settings of the adapter.


def peft_config(
    parents: Sequence[Parent],
    plan: LoraPlan,
    written: Written,
    base: str,
    heads: Heads | None = None,
) -> dict[str, Any]:
    """``adapter_config.json`` with which PEFT computes what was written.

    Keys are those of PEFT (https://huggingface.co/docs/peft/developer_guides/checkpoint).
    """
    configs = [parent.opened.config.raw for parent in parents if parent.opened.config]
    complete = len(configs) == len(parents)
    first = configs[0] if configs else {}
    alphas = {m.name: m.scale * written.sizes[m.name] for m in plan.modules}
    alpha = max(alphas.values())
    biases = {config.get("bias") or "none" for config in configs} - {"none"}
    return {
        "peft_type": "LORA",
        "task_type": (heads.task_type or None) if heads else first.get("task_type") or "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": first.get("revision"),
        "r": written.rank,
        "lora_alpha": alpha,
        "rank_pattern": {n: size for n, size in written.sizes.items() if size != written.rank},
        "alpha_pattern": {n: value for n, value in alphas.items() if value != alpha},
        "target_modules": _targets(configs, list(written.sizes), complete=complete),
        "modules_to_save": _saved_whole(configs, heads),
        "target_parameters": _union(configs, "target_parameters"),
        "ensure_weight_tying": any(config.get("ensure_weight_tying") for config in configs),
        "fan_in_fan_out": plan.fan_in_fan_out,
        "lora_dropout": 0.0,
        # where parents trained different biases, PEFT loads those that are there with "all"
        "bias": "none" if not biases else biases.pop() if len(biases) == 1 else "all",
        "use_rslora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _targets(
    configs: Sequence[Mapping[str, Any]], modules: list[str], *, complete: bool
) -> list[str]:
    """The union of the parents' suffixes where those name their modules, else full names."""
    filters = ("layers_to_transform", "layers_pattern", "exclude_modules")
    plain = complete and all(
        isinstance(config.get("target_modules"), list)
        and not any(config.get(one) not in (None, []) for one in filters)
        for config in configs
    )
    if not plain:
        return modules
    return sorted({target for config in configs for target in config["target_modules"]})


def _union(configs: Sequence[Mapping[str, Any]], key: str) -> list[str] | None:
    """All names that any parent gives; None for none, as PEFT writes it."""
    return sorted({name for config in configs for name in config.get(key) or ()}) or None


def _saved_whole(configs: Sequence[Mapping[str, Any]], heads: Heads | None) -> list[str] | None:
    """``modules_to_save``: of heads only those that are there; PEFT starts the others anew."""
    names = _union(configs, "modules_to_save")
    if heads is None:
        return names
    return sorted({*heads.modules, *(n for n in names or () if not is_head(n))}) or None


# A merge that is measured before it is written.


def merged_in_memory(parents: Sequence[Parent], plan: LoraPlan | FullPlan, recipe: Recipe) -> Delta:
    """The merge as a delta for a loaded base, for methods that are weighted sums.

    LoRAs stay in factors, stacked and exact; full checkpoints become whole tensors.
    """
    if isinstance(plan, FullPlan):
        return Delta({}, False, saved={one.name: _whole(one, recipe) for one in plan.tensors})
    adapters = [parent.adapter for parent in parents if parent.adapter]
    under = {stored.name for adapter in adapters for stored in adapter.originals.values()}
    values = [(s.key in under, s.tensors.name, _whole(s.tensors, recipe)) for s in plan.saved]
    return Delta(
        {module.name: _stacked(module, recipe) for module in plan.modules},
        plan.fan_in_fan_out,
        saved={name: value for is_under, name, value in values if not is_under},
        originals={name: value for is_under, name, value in values if is_under},
        copied=frozenset().union(*(adapter.copied for adapter in adapters)),
    )


def _stacked(module: Module, recipe: Recipe) -> Factors:
    """Factors of the merge side by side, exact; of each expert by itself."""
    loaded = load_changes(module.tensors)
    mixed = coefficients(recipe, module.tensors, loaded)
    loras = [(mixed[i], one.factors.split()) for i, one in loaded.items() if one.factors]
    made = []
    for number in range(module.experts):
        A = torch.cat([split[number].A for _, split in loras])
        halves = [c * split[number].scale * split[number].B for c, split in loras]
        made.append(Factors(A, torch.cat(halves, dim=1), 1.0))
    kind = next(one.factors.kind for one in loaded.values() if one.factors)
    return Factors(*_joined(made), 1.0, kind, module.experts)


def _whole(one: Tensors, recipe: Recipe) -> Tensor:
    return torch.cat([rows.clone() for _, _, rows in merged_values(recipe, one)])
