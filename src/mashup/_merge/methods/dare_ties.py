"""dare_ties: DARE's random dropping, then TIES's election of signs."""

from __future__ import annotations

from mashup._merge.methods.dare_linear import trim
from mashup._merge.methods.method import Method

DARE_TIES = Method(
    "dare_ties",
    "as ties, with δ̃ᵢ = mᵢ δᵢ / density, m drawn",
    "Yu et al., arXiv 2311.03099, with arXiv 2306.01708",
    trim=trim,
    elect=True,
    takes=("scale", "density", "seed"),
)
