"""Merge into a LoRA: module by module, exact in factors where the method is a weighted sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from mashup._merge.algebra import (
    factorise,
    generator_for,
    rounding_energy,
)
from mashup._merge.combine import (
    Recipe,
    Tensors,
    merged_deltas,
    merged_pieces,
)
from mashup._merge.energy import Energy, energy_of, squared
from mashup._merge.modules import LoraPlan, Module, Saved
from mashup._merge.pool import run_all
from mashup._merge.rank import rank_for_energy
from mashup._merge.shards import ShardWriter, cast, open_shards, plan_shards
from mashup._merge.spectra import averaged, joined, spectra
from mashup.checkpoint.adapter import WEIGHTS
from mashup.delta import Factors
from mashup.errors import InputError, Problem
from mashup.headers import TensorInfo
from mashup.progress import SILENT, Progress
from mashup.weights import SAFETENSORS

#: A squared sum this small beside its parts is the rounding error of parts that cancel.
_NOISE = 1e-24
_ONE_FILE = 1 << 62  # bytes: an adapter is never sharded


@dataclass(frozen=True)
class Written:
    """What was written, and how well it holds the exact merge.

    Attributes:
        rank: of every module that is large enough for it.
        sizes: module name to its rank.
        energy: over all modules, what was left out, and the saved tensors whose base is known.
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
        energies += [_save(saved, recipe, dtype, writer) for saved in plan.saved]
    outside = sum(_delta_energy(recipe, tensors) for tensors in plan.left_out)
    total = sum(energies, Energy(total=outside, error=outside))
    known = all(saved.tensors.base is not None for saved in plan.saved)
    if known and total.total <= _NOISE * total.parts:
        raise InputError(nothing_left(recipe))
    return Written(max(sizes.values()), sizes, total, outside)


def _save(saved: Saved, recipe: Recipe, dtype: torch.dtype, writer: ShardWriter) -> Energy:
    """Merge and write one whole tensor."""
    energy, one = Energy(), saved.tensors
    for piece in merged_pieces(recipe, one, compare=one.base is not None):
        made = cast(piece.rows, dtype, saved.key)
        writer.write(saved.key, piece.start, made)
        energy += energy_of(piece, made)
    return energy


def nothing_left(recipe: Recipe) -> Problem:
    """The problem of a merge that is its base."""
    where = f"--method {recipe.method.name}, weights {list(recipe.weights)}"
    found, expected = "no change of the base", "a start that differs from the base"
    fix = (
        "parents that cancel or agree on nothing: use --method linear, other weights, or the base "
        "itself; changes that rounding removes: --dtype float32, or --output-kind lora"
    )
    return Problem("merge changes nothing", where, found, expected, fix)


def _rank_of_energy(plan: LoraPlan, recipe: Recipe) -> int:
    assert plan.rank.share is not None
    jobs = (partial(spectra, module, recipe, None) for module in plan.modules)
    found = [merged.spectrum.S for parts in run_all(jobs) for merged in parts]
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
        exact, energy = averaged(module, recipe)
    else:
        exact, energy = [], Energy()
        for number, merged in enumerate(spectra(module, recipe, size)):
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
    for key, half in zip(module.keys, joined(rounded), strict=True):
        writer.write(key, 0, half)
    return energy


def _delta_energy(recipe: Recipe, tensors: Tensors) -> float:
    pieces = merged_deltas(recipe, tensors.in_pieces(recipe.method))
    return sum(squared(rows) for _, _, rows in pieces)


def _infos(plan: LoraPlan, sizes: Mapping[str, int], dtype: str) -> dict[str, TensorInfo]:
    infos = {}
    for module in plan.modules:
        rank = sizes[module.name] * module.experts
        infos[module.keys[0]] = TensorInfo(dtype, (rank, module.d_in))
        infos[module.keys[1]] = TensorInfo(dtype, (module.d_out, rank))
    for saved in plan.saved:
        infos[saved.key] = TensorInfo(dtype, saved.tensors.shape)
    return infos
