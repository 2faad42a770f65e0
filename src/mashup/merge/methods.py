"""Merge methods: parents and weights in, one delta out.

``linear`` is the exact weighted mean of the deltas (task arithmetic, arXiv 2212.04089, with
weights that sum to one by default). ``factor_average`` averages A and B apart, as the code
released with arXiv 2603.10156 does; it is not the mean of the deltas, and is here to
reproduce it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from mashup.delta import Delta, Factors
from mashup.errors import InputError, Problem
from mashup.merge.algebra import FactorStyle, factorise, generator_for, weighted_sum
from mashup.merge.rank import choose_rank, kept_energy


@dataclass(frozen=True)
class Merged:
    """A merged delta of one scale, with how well it holds what it should.

    Attributes:
        delta: float64 factors.
        rank: of every module that is large enough for it.
        kept_energy: share of the exact mean's squared norm that ``rank`` keeps; None where
            that is not how the method errs.
        relative_error: ``‖delta - exact mean‖ / ‖exact mean‖`` over all modules.
    """

    delta: Delta
    rank: int
    kept_energy: float | None
    relative_error: float


def linear(
    parents: Sequence[Delta],
    weights: Sequence[float],
    *,
    rank: str | int,
    style: FactorStyle,
    seed: int,
) -> Merged:
    """``Σ w_i Δ_i``; a module that a parent lacks counts as a zero delta."""
    weighted = {name: _parents_of(name, parents, weights) for name in module_names(parents)}
    spectra = {name: weighted_sum(pairs) for name, pairs in weighted.items()}
    wanted = choose_rank(rank, parents, spectra)
    scale = max(factors.scale for delta in parents for factors in delta.modules.values())
    modules = {}
    for name, spectrum in spectra.items():
        size = min(wanted, spectrum.U.shape[0], spectrum.Vt.shape[1])
        modules[name] = factorise(spectrum, size, scale, style, generator_for(seed, name))
    kept = kept_energy(spectra, wanted)
    fan = parents[0].fan_in_fan_out
    return Merged(Delta(modules, fan), wanted, kept, max(0.0, 1 - kept) ** 0.5)


def factor_average(parents: Sequence[Delta], weights: Sequence[float]) -> Merged:
    """``(Σ w_i B_i) (Σ w_i A_i)``, module by module.

    Raises:
        InputError: the parents differ in modules, ranks or scales.
    """
    shapes = [{n: (f.rank, f.scale) for n, f in delta.modules.items()} for delta in parents]
    if any(shape != shapes[0] for shape in shapes):
        found, fix = "parents that differ in modules, ranks or scales", "use --method linear"
        expected = "the same of all three"
        raise InputError(Problem("cannot average factors", "parents", found, expected, fix))
    modules, error, total = {}, 0.0, 0.0
    for name in module_names(parents):
        pairs = _parents_of(name, parents, weights)
        A = sum(w * f.A.double() for w, f in pairs)
        B = sum(w * f.B.double() for w, f in pairs)
        modules[name] = Factors(A, B, pairs[0][1].scale)  # type: ignore[arg-type]
        error += _squared_distance(modules[name], pairs)
        total += float(weighted_sum(pairs).energy.sum())
    rank = max(factors.rank for factors in modules.values())
    relative = (error / total) ** 0.5 if total else 0.0
    return Merged(Delta(modules, parents[0].fan_in_fan_out), rank, None, relative)


def module_names(parents: Sequence[Delta]) -> list[str]:
    """Every module that any parent adapts, sorted."""
    return sorted({name for delta in parents for name in delta.modules})


def _parents_of(
    name: str, parents: Sequence[Delta], weights: Sequence[float]
) -> list[tuple[float, Factors]]:
    both = zip(weights, parents, strict=True)
    return [(weight, delta.modules[name]) for weight, delta in both if name in delta.modules]


def _squared_distance(factors: Factors, pairs: list[tuple[float, Factors]]) -> float:
    """``‖factors - Σ w·s·B·A‖²``."""
    difference = weighted_sum([(1.0, factors), *((-weight, f) for weight, f in pairs)])
    return float(difference.energy.sum())


def rounded(merged: Merged, dtype: torch.dtype) -> Merged:
    """The same in ``dtype``, as it is written, with the rounding in its relative error.

    Raises:
        InputError: a value that ``dtype`` cannot hold.
    """
    modules, error, total = {}, 0.0, 0.0
    for name, exact in merged.delta.modules.items():
        factors = Factors(exact.A.to(dtype), exact.B.to(dtype), exact.scale)
        if not bool(torch.isfinite(factors.A).all() and torch.isfinite(factors.B).all()):
            fix = "use --dtype float32 or other weights"
            raise InputError(Problem("result is not finite", str(dtype), name, fix=fix))
        modules[name] = factors
        error += float(weighted_sum([(1.0, factors), (-1.0, exact)]).energy.sum())
        total += float(weighted_sum([(1.0, exact)]).energy.sum())
    relative = error / total if total else 0.0
    whole = (merged.relative_error**2 + relative) ** 0.5
    return replace(merged, delta=replace(merged.delta, modules=modules), relative_error=whole)
