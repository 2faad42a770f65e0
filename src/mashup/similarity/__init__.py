"""How alike two checkpoints are: the angle between what they change in their base."""

from typing import TYPE_CHECKING

from mashup import lazily
from mashup.similarity.clusters import SAME, Row, cosine_rows, groups, leaders
from mashup.similarity.diverse import marginal, relative

if TYPE_CHECKING:
    from mashup.similarity.changed import BaseTensor, changes
    from mashup.similarity.products import cosine, delta_inner, inner
    from mashup.similarity.sketches import SCHEME, SIZE, from_bytes, sketch, to_bytes

__all__ = [
    "SAME",
    "SCHEME",
    "SIZE",
    "BaseTensor",
    "Row",
    "changes",
    "cosine",
    "cosine_rows",
    "delta_inner",
    "from_bytes",
    "groups",
    "inner",
    "leaders",
    "marginal",
    "relative",
    "sketch",
    "to_bytes",
]

lazily(
    __name__,
    {
        "mashup.similarity.changed": ("BaseTensor", "changes"),
        "mashup.similarity.products": ("cosine", "delta_inner", "inner"),
        "mashup.similarity.sketches": ("SCHEME", "SIZE", "from_bytes", "sketch", "to_bytes"),
    },
)
