"""Was it worth it? Arms and controls on the same task, budget, seeds and splits."""

from mashup.compare.comparison import Comparison, compare
from mashup.settings import ARMS

__all__ = ["ARMS", "Comparison", "compare"]
