"""What a checkpoint holds, from headers: stored tensors, and what it changes in its base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mashup.checkpoint import Adapter, Checkpoint, Stored, read_adapter, read_adapter_config
from mashup.checkpoint.conv1d import turned
from mashup.checkpoint.experts import laid_out
from mashup.checkpoint.placement import Shape, shape_of_rows, shapes_of
from mashup.checkpoint.ties import changed_apart, read_untied, with_head
from mashup.checkpoint.tokens import Place, embedding_place


@dataclass(frozen=True)
class Content:
    """One checkpoint from its headers.

    Attributes:
        checkpoint: what and where it is.
        tensors: all that are stored, a tied model's without the head.
        values: name of a base tensor to its whole new value.
        adapter: what a LoRA changes; None for a whole model.
    """

    checkpoint: Checkpoint
    tensors: Sequence[Stored]
    values: Mapping[str, Stored]
    adapter: Adapter | None = None

    @property
    def is_whole(self) -> bool:
        return self.adapter is None

    @property
    def apart(self) -> list[str]:
        """Names of what it changes in one of a tied pair alone."""
        return changed_apart(self.adapter) if self.adapter else list(self.values)

    def shapes(
        self, base: Mapping[str, Shape], config: Mapping[str, Any]
    ) -> dict[str, Sequence[Shape]]:
        """Name of a base tensor to the shapes of what changes it.

        Biases that the base lacks are left out: a LoRA brings its own (``lora_bias``).

        Args:
            base: shapes of the base's tensors.
            config: of the base; it tells which modules are Conv1D.

        Raises:
            InputError: experts whose layout the base's shapes do not tell.
        """
        if self.adapter is None:
            return {name: [stored.shape] for name, stored in self.values.items()}
        known = {n: m for n, m in self.adapter.modules.items() if m.tensor in base}
        biases = {n: b for n, b in self.adapter.biases.items() if n in base}
        modules = {**self.adapter.modules, **turned(laid_out(known, base), config)}
        shapes: dict[str, Sequence[Shape]] = {}
        shapes |= shapes_of(replace(self.adapter, modules=modules, biases=biases))
        for name, (ids, new) in self.adapter.rows.items():
            place = with_head(base).get(name, ())
            shapes[name] = [*shapes[name], shape_of_rows(ids, new.shape, place)]
        return shapes

    @property
    def embeddings(self) -> Place | None:
        """Its folder and how many rows its embeddings have, None without any."""
        shapes = {name: one.shape for name, one in self.values.items()}
        return embedding_place(self.checkpoint.path, shapes)

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
        return Content(checkpoint, list(values.values()), values)
    adapter = read_adapter(checkpoint.path, read_adapter_config(checkpoint.path))
    halves = [half for module in adapter.modules.values() for half in (module.A, module.B)]
    whole = [*adapter.saved.values(), *adapter.originals.values()]
    parts = [stored for _, stored in (*adapter.rows.values(), *adapter.biases.values())]
    return Content(checkpoint, [*halves, *whole, *parts], adapter.saved, adapter)
