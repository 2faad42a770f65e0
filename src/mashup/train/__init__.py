"""One training run, from scratch or from an init: curve, checkpoint, manifest."""

from mashup.train.run import Run, train

__all__ = ["Run", "train"]
