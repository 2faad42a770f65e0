"""One training run, from scratch or from an init: curve, checkpoint, manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mashup.train.record import Run

if TYPE_CHECKING:
    from mashup.train.run import train

__all__ = ["Run", "train"]


def __getattr__(name: str) -> Any:
    """``train`` loads torch, so it is imported when it is asked for."""
    if name != "train":
        raise AttributeError(f"module 'mashup.train' has no attribute {name!r}")
    from mashup.train.run import train

    return train
