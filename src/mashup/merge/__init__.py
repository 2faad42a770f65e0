"""Merge checkpoints exactly, LoRAs in factors and models in a stream, into a start for training."""

from typing import TYPE_CHECKING

from mashup import lazily
from mashup.merge.methods import METHODS, Method

if TYPE_CHECKING:
    from mashup.merge.algebra import FACTOR_STYLES, FactorStyle
    from mashup.merge.merge import Init, merge

__all__ = ["FACTOR_STYLES", "METHODS", "FactorStyle", "Init", "Method", "merge"]

lazily(
    __name__,
    {
        "mashup.merge.algebra": ("FACTOR_STYLES", "FactorStyle"),
        "mashup.merge.merge": ("Init", "merge"),
    },
)
