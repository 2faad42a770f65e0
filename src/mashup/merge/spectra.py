"""One module of a merged LoRA, decomposed: in factors where that is exact, else dense."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mashup.delta import Factors
from mashup.merge.algebra import (
    Spectrum,
    dense_spectrum,
    generator_for,
    weighted_sum,
)
from mashup.merge.combine import (
    Recipe,
    coefficients,
    merged_deltas,
    open_changes,
)
from mashup.merge.energy import Energy
from mashup.merge.methods.factor_average import average
from mashup.merge.modules import Module


def joined(experts: Sequence[Factors]) -> tuple[Tensor, Tensor]:
    """``A`` and ``B`` of one module; of several experts as PEFT stacks them."""
    if len(experts) == 1:
        return experts[0].A, experts[0].B
    A = torch.cat([one.A for one in experts])
    B = torch.stack([one.B for one in experts], dim=2)
    return A, B.reshape(B.shape[0], -1)


def spectra(module: Module, recipe: Recipe, rank: int | None) -> list[tuple[Spectrum, float]]:
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
    turned = dense.T if module.transposed else dense
    return dense_spectrum(turned, rank, generator), float(dense.double().square().sum())


def averaged(module: Module, recipe: Recipe) -> tuple[list[Factors], Energy]:
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
