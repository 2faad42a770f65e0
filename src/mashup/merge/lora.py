"""Merge into a LoRA: module by module, exact in factors where the method is a weighted sum."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mashup.checkpoint.adapter import WEIGHTS
from mashup.delta import Factors
from mashup.errors import InputError, Problem
from mashup.headers import TensorInfo
from mashup.merge.algebra import (
    FactorStyle,
    Spectrum,
    dense_spectrum,
    factorise,
    generator_for,
    rounding_energy,
    weighted_sum,
)
from mashup.merge.combine import (
    Recipe,
    Tensors,
    coefficients,
    merged_deltas,
    merged_values,
    open_changes,
)
from mashup.merge.energy import Energy
from mashup.merge.methods.factor_average import average
from mashup.merge.pool import run_all
from mashup.merge.rank import Rank, rank_for_energy
from mashup.merge.shards import ShardWriter, cast, open_shards, plan_shards
from mashup.progress import SILENT, Progress
from mashup.weights import SAFETENSORS

_ONE_FILE = 1 << 62  # bytes: an adapter is never sharded


@dataclass(frozen=True)
class Module:
    """One module of the merged LoRA: its base tensor in all parents, widths and scale.

    ``ranks`` are those of the parents that have it; ``fixed`` the rank that it must keep.
    ``keys`` are the names of its halves in the file.
    """

    name: str
    tensors: Tensors
    d_in: int
    d_out: int
    ranks: tuple[int, ...]
    scale: float
    keys: tuple[str, str]
    fixed: int | None = None
    experts: int = 1

    def size(self, rank: int) -> int:
        """The rank that it gets when the adapter has ``rank``."""
        return self.fixed or min(rank, self.d_in, self.d_out)


@dataclass(frozen=True)
class Saved:
    """A whole tensor beside the LoRA, and its name in the file."""

    key: str
    tensors: Tensors


@dataclass(frozen=True)
class LoraPlan:
    """All that is decided before any module is merged.

    Attributes:
        modules: to be merged in factors or as dense deltas.
        saved: whole tensors that go beside them (``modules_to_save``, biases, ...).
        left_out: tensors that change but that a LoRA of linear layers cannot hold.
        rank: as asked for.
        style: of the factors.
    """

    modules: tuple[Module, ...]
    saved: tuple[Saved, ...]
    left_out: tuple[Tensors, ...]
    rank: Rank
    style: FactorStyle
    fan_in_fan_out: bool = False

    @property
    def bytes_written(self) -> int:
        """At most, in float32."""
        widths = (m.experts * (m.d_in + m.d_out) * m.size(sum(m.ranks) or 1) for m in self.modules)
        return 4 * (sum(widths) + sum(math.prod(one.tensors.shape) for one in self.saved))


@dataclass(frozen=True)
class Written:
    """What was written, and how well it holds the exact merge.

    Attributes:
        rank: of every module that is large enough for it.
        sizes: module name to its rank.
        energy: over all modules and what was left out.
        left_out: of ``energy.total``, the part that is in no module.
    """

    rank: int
    sizes: Mapping[str, int]
    energy: Energy
    left_out: float = field(default=0.0)

    @property
    def kept_energy(self) -> float:
        return self.energy.kept / self.energy.total if self.energy.total else 1.0

    @property
    def relative_error(self) -> float:
        """``‖written - exact‖ / ‖exact‖``."""
        return (self.energy.error / self.energy.total) ** 0.5 if self.energy.total else 0.0


def write_lora(
    folder: Path,
    plan: LoraPlan,
    recipe: Recipe,
    dtype: torch.dtype,
    progress: Progress = SILENT,
) -> Written:
    """Merge every module and write ``adapter_model.safetensors``; memory holds a few modules.

    Raises:
        InputError: numbers that are not finite, or that ``dtype`` cannot hold; only zeros.
    """
    ranks = [module.ranks for module in plan.modules]
    rank = plan.rank.of(ranks) or _rank_of_energy(plan, recipe)
    sizes = {module.name: module.size(rank) for module in plan.modules}
    infos = _infos(plan, sizes, SAFETENSORS[dtype])
    with (
        open_shards(folder, plan_shards(infos, _ONE_FILE, WEIGHTS)) as writer,
        progress.bar("merging", len(plan.modules)) as advance,
    ):

        def one(module: Module) -> Energy:
            energy = _merge(module, plan, recipe, sizes[module.name], dtype, writer)
            advance()
            return energy

        energies = run_all(partial(one, module) for module in plan.modules)
        for one_saved in plan.saved:
            for start, _, rows in merged_values(recipe, one_saved.tensors):
                writer.write(one_saved.key, start, cast(rows, dtype, one_saved.key))
    outside = sum(_delta_energy(recipe, tensors) for tensors in plan.left_out)
    total = sum(energies, Energy(total=outside, error=outside))
    if total.total == 0 and not plan.saved:
        raise InputError(_nothing_left(recipe))
    return Written(max(sizes.values()), sizes, total, outside)


def _nothing_left(recipe: Recipe) -> Problem:
    where = f"--method {recipe.method.name}, weights {list(recipe.weights)}"
    found, expected = "a delta of zero in every module", "a start that differs from the base"
    fix = "parents agree on nothing here: use --method linear, other weights, or the base itself"
    return Problem("merge changes nothing", where, found, expected, fix)


def _rank_of_energy(plan: LoraPlan, recipe: Recipe) -> int:
    assert plan.rank.share is not None
    jobs = (partial(_spectra, module, recipe, None) for module in plan.modules)
    found = [spectrum.S for spectra in run_all(jobs) for spectrum, _ in spectra]
    return rank_for_energy(plan.rank.share, found)


def _merge(
    module: Module,
    plan: LoraPlan,
    recipe: Recipe,
    size: int,
    dtype: torch.dtype,
    writer: ShardWriter,
) -> Energy:
    """Merge one module, each of its experts by itself, and write its halves."""
    if recipe.method.name == "factor_average":
        exact, energy = _averaged(module, recipe)
    else:
        exact, energy = [], Energy()
        for number, (spectrum, total) in enumerate(_spectra(module, recipe, size)):
            name = module.name if module.experts == 1 else f"{module.name}:{number}"
            generator = generator_for(recipe.settings.seed, name)
            exact.append(factorise(spectrum, size, module.scale, plan.style, generator))
            kept = min(total, float(spectrum.energy[:size].sum()))
            energy += Energy(total, kept, total - kept)
    rounded = []
    for one in exact:
        A, B = (cast(half, dtype, module.name) for half in (one.A, one.B))
        rounded.append(Factors(A, B, one.scale))
        energy += Energy(error=rounding_energy(one, rounded[-1]))
    for key, half in zip(module.keys, joined(rounded), strict=True):
        writer.write(key, 0, half)
    return energy


def joined(experts: Sequence[Factors]) -> tuple[Tensor, Tensor]:
    """``A`` and ``B`` of one module; of several experts as PEFT stacks them."""
    if len(experts) == 1:
        return experts[0].A, experts[0].B
    A = torch.cat([one.A for one in experts])
    B = torch.stack([one.B for one in experts], dim=2)
    return A, B.reshape(B.shape[0], -1)


def _spectra(module: Module, recipe: Recipe, rank: int | None) -> list[tuple[Spectrum, float]]:
    """Spectrum and squared norm of a module's merged delta; of each expert if it has several."""
    opened = open_changes(module.tensors)
    if recipe.method.mix and all(one.value is None for one in opened.values()):
        mixed = coefficients(recipe, module.tensors, opened)
        loras = [(mixed[i], one.factors.split()) for i, one in opened.items() if one.factors]
        pairs = [[(c, split[n]) for c, split in loras] for n in range(module.experts)]
        spectra = [weighted_sum(pair) for pair in pairs]
        return [(spectrum, float(spectrum.energy.sum())) for spectrum in spectra]
    dense = torch.cat([rows for _, _, rows in merged_deltas(recipe, module.tensors)])
    generator = generator_for(recipe.settings.seed, f"svd:{module.name}")
    return [_decomposed(one, module, rank, generator) for one in _matrices(dense)]


def _matrices(dense: Tensor) -> list[Tensor]:
    return [dense] if dense.dim() == 2 else list(dense)


def _decomposed(
    dense: Tensor, module: Module, rank: int | None, generator: torch.Generator
) -> tuple[Spectrum, float]:
    turned = dense if tuple(dense.shape) == (module.d_out, module.d_in) else dense.T
    return dense_spectrum(turned, rank, generator), float(dense.double().square().sum())


def _averaged(module: Module, recipe: Recipe) -> tuple[list[Factors], Energy]:
    """The average of the factors, and how far it is from the mean of the deltas."""
    opened = open_changes(module.tensors)
    loras = [(recipe.weights[i], o.factors.split()) for i, o in opened.items() if o.factors]
    made, energy = [], Energy()
    for number in range(module.experts):
        pairs = [(weight, split[number]) for weight, split in loras]
        made.append(average(pairs))
        error = weighted_sum([(1.0, made[-1]), *((-weight, f) for weight, f in pairs)])
        total = float(weighted_sum(pairs).energy.sum())
        energy += Energy(total, total, float(error.energy.sum()))
    return made, energy


def _delta_energy(recipe: Recipe, tensors: Tensors) -> float:
    return sum(float(rows.double().square().sum()) for _, _, rows in merged_deltas(recipe, tensors))


def key_of(name: str) -> str:
    """PEFT's name for a tensor of an adapter file."""
    return f"base_model.model.{name}"


def _infos(plan: LoraPlan, sizes: Mapping[str, int], dtype: str) -> dict[str, TensorInfo]:
    infos = {}
    for module in plan.modules:
        rank = sizes[module.name] * module.experts
        infos[module.keys[0]] = TensorInfo(dtype, (rank, module.d_in))
        infos[module.keys[1]] = TensorInfo(dtype, (module.d_out, rank))
    for saved in plan.saved:
        infos[saved.key] = TensorInfo(dtype, saved.tensors.shape)
    return infos
