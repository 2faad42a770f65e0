"""The door to torch models: load a base, run its head where it matters, put deltas on and off."""

from mashup.model.apply import applied
from mashup.model.base import AnyBase, Base, load_base, name_of
from mashup.model.change import change_problems, read_change
from mashup.model.fit import adapter_problems, module_problems

__all__ = [
    "AnyBase",
    "Base",
    "adapter_problems",
    "applied",
    "change_problems",
    "load_base",
    "module_problems",
    "name_of",
    "read_change",
]
