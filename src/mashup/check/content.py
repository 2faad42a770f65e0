"""What a checkpoint holds, from headers: stored tensors, and what it changes in its base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mashup.checkpoint import Checkpoint, Stored, read_adapter, read_adapter_config
from mashup.checkpoint.placement import Shape, shapes_of
from mashup.checkpoint.ties import read_untied
from mashup.checkpoint.tokens import Place
from mashup.checkpoint.vocabulary import BY_TOKEN


@dataclass(frozen=True)
class Content:
    """One checkpoint from its headers.

    Attributes:
        checkpoint: what and where it is.
        tensors: all that are stored, a tied model's without the head.
        shapes: name of a base tensor to the shapes of what changes it.
        values: name of a base tensor to its whole new value.
    """

    checkpoint: Checkpoint
    tensors: Sequence[Stored]
    shapes: Mapping[str, Sequence[Shape]]
    values: Mapping[str, Stored]

    @property
    def is_whole(self) -> bool:
        return self.checkpoint.kind == "full"

    @property
    def embeddings(self) -> Place | None:
        """Its folder and how many rows its embeddings have, None without any."""
        rows = [one.rows for name, one in self.values.items() if name.endswith(BY_TOKEN)]
        return (self.checkpoint.path, rows[0]) if rows else None

    def dtypes(self) -> dict[str, int]:
        """Type to bytes, most bytes first."""
        sizes: dict[str, int] = {}
        for stored in self.tensors:
            sizes[stored.dtype] = sizes.get(stored.dtype, 0) + stored.info.bytes
        return dict(sorted(sizes.items(), key=lambda pair: -pair[1]))


def read_content(checkpoint: Checkpoint) -> Content:
    """Read the headers of a checkpoint that has no problem so far.

    Raises:
        InputError: weights that are missing, damaged or of an unknown kind; all at once.
    """
    if checkpoint.kind == "full":
        values, _ = read_untied(checkpoint.path)
        shapes = {name: [stored.shape] for name, stored in values.items()}
        return Content(checkpoint, list(values.values()), shapes, values)
    adapter = read_adapter(checkpoint.path, read_adapter_config(checkpoint.path))
    halves = [half for module in adapter.modules.values() for half in (module.A, module.B)]
    tensors = [*halves, *adapter.saved.values()]
    return Content(checkpoint, tensors, shapes_of(adapter), adapter.saved)
