"""The door to torch models: load a base, run its head where it matters, put deltas on and off."""

from mashup.model.apply import applied
from mashup.model.base import AnyBase, Base, load_base, name_of
from mashup.model.change import read_change
from mashup.model.shapes import base_shapes, fit_loaded, shapes_of, skeleton_shapes

__all__ = [
    "AnyBase",
    "Base",
    "applied",
    "base_shapes",
    "fit_loaded",
    "load_base",
    "name_of",
    "read_change",
    "shapes_of",
    "skeleton_shapes",
]
