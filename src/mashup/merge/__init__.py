"""Merge checkpoints exactly, LoRAs in factors and models in a stream, into a start for training."""

from mashup.merge.algebra import FACTOR_STYLES, FactorStyle
from mashup.merge.merge import Init, merge
from mashup.merge.methods import METHODS, Method

__all__ = ["FACTOR_STYLES", "METHODS", "FactorStyle", "Init", "Method", "merge"]
