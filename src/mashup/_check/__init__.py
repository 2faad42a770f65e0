"""Check checkpoints without merging them: from headers, all problems at once."""

from mashup._check.check import Report, check

__all__ = ["Report", "check"]
