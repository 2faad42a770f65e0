"""Merge LoRA checkpoints exactly, in factors, into one adapter that trains well."""

from mashup.merge.algebra import FACTOR_STYLES, FactorStyle
from mashup.merge.merge import Init, Method, merge

__all__ = ["FACTOR_STYLES", "FactorStyle", "Init", "Method", "merge"]
