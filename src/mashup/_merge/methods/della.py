"""della: drop numbers at random, small ones more often, rescale, then elect signs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mashup._merge.methods.method import Method, Rows, Trimmer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mashup.settings import MergeSettings


def trim(_: Rows, __: int, settings: MergeSettings, generator: torch.Generator) -> Trimmer:
    """MagPrune (arXiv 2406.11617, section 3.1): a kept number is divided by its probability.

    Probabilities rise linearly with the rank of the magnitude within its row, from
    ``density - ε`` to ``density + ε``, both within (0, 1].
    """
    import torch

    if settings.density == 1:
        return lambda rows: rows
    low = settings.density - settings.epsilon
    high = min(1.0, settings.density + settings.epsilon)

    def drop(rows: Tensor) -> Tensor:
        flat = rows if rows.dim() > 1 else rows.unsqueeze(0)
        order = flat.abs().argsort(dim=-1, stable=True)
        rising = torch.linspace(low, high, flat.shape[-1]).expand_as(flat)
        chance = torch.empty_like(flat).scatter_(-1, order, rising)
        kept = torch.rand(flat.shape, generator=generator) < chance
        return (flat * kept / chance).view_as(rows)

    return drop


DELLA = Method(
    "della",
    "as ties, with δ̃ᵢ = mᵢ δᵢ / pᵢ, m drawn, p rising with the rank of |δᵢ| in its row",
    "Deep et al., arXiv 2406.11617",
    trim=trim,
    by_row=True,
    elect=True,
    takes=("scale", "density", "epsilon", "seed"),
)
