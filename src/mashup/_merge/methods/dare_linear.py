"""dare_linear: drop numbers at random, rescale the rest, and sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mashup._merge.methods.method import Method, Rows, Settings, Trimmer

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def trim(_: Rows, __: int, settings: Settings, generator: torch.Generator) -> Trimmer:
    """``δ̃ = m δ / density``, m is 1 with that probability (arXiv 2311.03099, equation 3)."""
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
