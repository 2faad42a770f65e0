"""The door to torch models: load a base, run its head where it matters, put deltas on and off."""

from mashup.model.base import Base, load_base
from mashup.model.head import head_only_at
from mashup.model.patch import Patch, module_problems

__all__ = ["Base", "Patch", "head_only_at", "load_base", "module_problems"]
