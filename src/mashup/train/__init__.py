"""One training run, from scratch or from an init: curve, checkpoint, manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mashup import lazily
from mashup.train.record import Run

if TYPE_CHECKING:
    from mashup.train.run import train

__all__ = ["Run", "train"]

lazily(__name__, {"mashup.train.run": ("train",)})
