"""Was it worth it? Arms and controls on the same task, budget, seeds and splits."""

from typing import TYPE_CHECKING

from mashup import lazily
from mashup.settings import ARMS

if TYPE_CHECKING:
    from mashup.compare.comparison import Comparison, compare

__all__ = ["ARMS", "Comparison", "compare"]

lazily(__name__, {"mashup.compare.comparison": ("Comparison", "compare")})
