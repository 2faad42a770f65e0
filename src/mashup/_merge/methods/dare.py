"""dare_linear and dare_ties: drop numbers at random, rescale the rest, then sum or elect signs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mashup._merge.methods.method import Method, Rows, Trimmer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mashup.settings import MergeSettings


def trim(_: Rows, __: int, settings: MergeSettings, generator: torch.Generator) -> Trimmer:
    """``δ̃ = m δ / density``; m is 1 with probability ``density`` (arXiv 2311.03099, equation 3)."""
    import torch

    def drop(rows: Tensor) -> Tensor:
        kept = torch.rand(rows.shape, generator=generator) < settings.density
        return rows * kept / settings.density

    return drop


DARE_LINEAR = Method(
    "dare_linear",
    "λ Σ wᵢ mᵢ δᵢ / density, m drawn",
    "Yu et al., arXiv 2311.03099",
    trim=trim,
    takes=("scale", "density", "seed"),
)
DARE_TIES = Method(
    "dare_ties",
    "as ties, with δ̃ᵢ = mᵢ δᵢ / density, m drawn",
    "Yu et al., arXiv 2311.03099, with arXiv 2306.01708",
    trim=trim,
    elect=True,
    takes=("scale", "density", "seed"),
)
