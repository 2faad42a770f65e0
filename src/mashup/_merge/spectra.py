"""One module of a merged LoRA, decomposed: in factors where that is exact, else dense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mashup._merge.algebra import Spectrum, dense_spectrum, generator_for, weighted_sum
from mashup._merge.changes import spans
from mashup._merge.combine import Recipe, coefficients, merged_deltas, open_changes
from mashup._merge.energy import Energy, squared
from mashup._merge.methods.factor_average import average
from mashup._merge.modules import Module
from mashup.delta import Factors
from mashup.similarity.products import inner


def joined(experts: Sequence[Factors]) -> tuple[Tensor, Tensor]:
    """``A`` and ``B`` of one module; of several experts as PEFT stacks them."""
    if len(experts) == 1:
        return experts[0].A, experts[0].B
    A = torch.cat([one.A for one in experts])
    B = torch.stack([one.B for one in experts], dim=2)
    return A, B.reshape(B.shape[0], -1)


@dataclass(frozen=True)
class Merged:
    """A module's merged delta, of one expert if it has several.

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
        """``‖Δ - Δ_rank‖²``; of a dense delta measured, since its spectrum is only float32."""
        if self.dense is None:
            return float(self.spectrum.energy[rank:].sum())
        left, right = (self.spectrum.U * self.spectrum.S)[:, :rank], self.spectrum.Vt[:rank]
        pieces = spans(tuple(self.dense.shape))
        return sum(squared(self.dense[a:b].double() - left[a:b] @ right) for a, b in pieces)


def spectra(module: Module, recipe: Recipe, rank: int | None) -> list[Merged]:
    """The merged delta of a module; of each expert if it has several."""
    opened = open_changes(module.tensors)
    if recipe.method.mix and all(one.value is None for one in opened.values()):
        mixed = coefficients(recipe, module.tensors, opened)
        loras = [(mixed[i], one.factors.split()) for i, one in opened.items() if one.factors]
        pairs = [[(c, split[n]) for c, split in loras] for n in range(module.experts)]
        return [_summed(pair) for pair in pairs]
    dense = torch.cat([rows for _, _, rows in merged_deltas(recipe, module.tensors)])
    generator = generator_for(recipe.settings.seed, f"svd:{module.name}")
    return [_decomposed(one, module, rank, generator) for one in _matrices(dense)]


def _summed(pairs: Sequence[tuple[float, Factors]]) -> Merged:
    spectrum = weighted_sum(pairs)
    lengths = (abs(weight) * max(0.0, float(inner(f, f))) ** 0.5 for weight, f in pairs)
    return Merged(spectrum, float(spectrum.energy.sum()), sum(lengths) ** 2)


def _matrices(dense: Tensor) -> list[Tensor]:
    return [dense] if dense.dim() == 2 else list(dense)


def _decomposed(
    dense: Tensor, module: Module, rank: int | None, generator: torch.Generator
) -> Merged:
    turned = dense.T if module.transposed else dense
    return Merged(dense_spectrum(turned, rank, generator), squared(dense), dense=turned)


def averaged(module: Module, recipe: Recipe) -> tuple[list[Factors], Energy]:
    """The average of the factors, and how far it is from the mean of the deltas."""
    opened = open_changes(module.tensors)
    loras = [(recipe.weights[i], o.factors.split()) for i, o in opened.items() if o.factors]
    made, energy = [], Energy()
    for number in range(module.experts):
        pairs = [(weight, split[number]) for weight, split in loras]
        made.append(average(pairs))
        error = weighted_sum([(1.0, made[-1]), *((-weight, f) for weight, f in pairs)])
        exact = _summed(pairs)
        energy += Energy(exact.total, exact.total, float(error.energy.sum()), exact.parts)
    return made, energy
