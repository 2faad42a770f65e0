"""One training run, from scratch or from an init: curve, checkpoint, manifest."""
