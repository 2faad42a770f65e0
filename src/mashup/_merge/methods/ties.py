"""ties: trim small numbers, elect a sign for each, average those that have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mashup._merge.methods.method import Method, Rows, Trimmer

if TYPE_CHECKING:
    import torch

    from mashup.settings import MergeSettings


def trim(rows: Rows, count: int, settings: MergeSettings, _: torch.Generator) -> Trimmer:
    """Keep the ``density`` share of largest magnitude (arXiv 2306.01708, section 4.1)."""
    from mashup._merge.methods.magnitude import largest

    if settings.density == 1:
        return lambda chunk: chunk
    return largest(rows, max(1, int(settings.density * count)))


TIES = Method(
    "ties",
    "λ Σ wᵢ δ̃ᵢ / Σ wᵢ over parents whose δ̃ᵢ has the sign of Σ wᵢ δ̃ᵢ; δ̃ keeps the largest numbers",
    "Yadav et al., arXiv 2306.01708",
    trim=trim,
    elect=True,
    takes=("scale", "density"),
)
