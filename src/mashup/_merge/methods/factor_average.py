"""factor_average: A and B averaged apart, as the code released with arXiv 2603.10156 does.

It is not the mean of the deltas, and is here to reproduce the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mashup._merge.methods.method import Method

if TYPE_CHECKING:
    from torch import Tensor

    from mashup.delta import Factors


def average(parents: Sequence[tuple[float, Factors]]) -> Factors:
    """``(Σ w B) (Σ w A)`` of one module, in float64; ranks and scales are the same."""
    import torch

    from mashup.delta import Factors

    A: Tensor = torch.stack([w * f.A.double() for w, f in parents]).sum(0)
    B: Tensor = torch.stack([w * f.B.double() for w, f in parents]).sum(0)
    return Factors(A, B, parents[0][1].scale)


FACTOR_AVERAGE = Method(
    "factor_average",
    "s (Σ wᵢ Bᵢ) (Σ wᵢ Aᵢ), w = 1/k; LoRA only",
    "code of arXiv 2603.10156; not the mean of the deltas",
)
