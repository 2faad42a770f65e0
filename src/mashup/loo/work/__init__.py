"""What each kind of job does."""

from mashup.loo.work.do import do

__all__ = ["do"]
