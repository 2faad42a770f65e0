"""breadcrumbs: drop both the small numbers and the few largest ones, and sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mashup._merge.methods.method import Method, Rows, Trimmer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mashup.settings import MergeSettings


def trim(rows: Rows, count: int, settings: MergeSettings, _: torch.Generator) -> Trimmer:
    """Drop the ``gamma`` share of largest magnitude, then keep ``density`` of all numbers.

    arXiv 2312.06795, section 3. Where both cannot be, fewer of the largest are dropped.
    """
    from mashup._merge.methods.magnitude import largest

    wanted = max(1, int(settings.density * count))
    outliers = min(int(settings.gamma * count), count - wanted)
    down_to = largest(rows, wanted + outliers)
    if outliers == 0:
        return down_to
    dropped = largest(rows, outliers)

    def keep(chunk: Tensor) -> Tensor:
        return chunk * (down_to.mask(chunk) & ~dropped.mask(chunk))

    return keep


BREADCRUMBS = Method(
    "breadcrumbs",
    "λ Σ wᵢ δ̃ᵢ, w = 1; δ̃ drops the smallest numbers and the γ share of the largest",
    "Davari and Belilovsky, arXiv 2312.06795",
    trim=trim,
    sums=True,
    takes=("scale", "density", "gamma"),
)
