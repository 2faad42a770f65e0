"""What a merged LoRA holds: its modules, and whole tensors beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mashup._merge.algebra import (
    FactorStyle,
)
from mashup._merge.combine import (
    Tensors,
)
from mashup.settings import Rank


@dataclass(frozen=True)
class Module:
    """One module of the merged LoRA: its base tensor in all parents, widths and scale.

    ``ranks`` are those of the parents that have it; ``fixed`` the rank that it must keep.
    ``keys`` are the names of its halves in the file. ``transposed`` says that the base stores
    the weight as ``(d_in, d_out)``, which the shape of a square one does not show.
    """

    name: str
    tensors: Tensors
    d_in: int
    d_out: int
    ranks: tuple[int, ...]
    scale: float
    keys: tuple[str, str]
    transposed: bool
    fixed: int | None = None
    experts: int = 1

    def size(self, rank: int) -> int:
        """The rank that it gets when the adapter has ``rank``."""
        return self.fixed or min(rank, self.d_in, self.d_out)


@dataclass(frozen=True)
class Saved:
    """A whole tensor beside the LoRA, and its name in the file."""

    key: str
    tensors: Tensors


@dataclass(frozen=True)
class LoraPlan:
    """All that is decided before any module is merged.

    Attributes:
        modules: to be merged in factors or as dense deltas.
        saved: whole tensors that go beside them (``modules_to_save``, biases, ...).
        left_out: tensors that change but that a LoRA of linear layers cannot hold.
        rank: as asked for.
        style: of the factors.
    """

    modules: tuple[Module, ...]
    saved: tuple[Saved, ...]
    left_out: tuple[Tensors, ...]
    rank: Rank
    style: FactorStyle
    fan_in_fan_out: bool = False

    @property
    def bytes_written(self) -> int:
        """At most, in float32."""
        widths = (m.experts * (m.d_in + m.d_out) * m.size(sum(m.ranks) or 1) for m in self.modules)
        return 4 * (sum(widths) + sum(math.prod(one.tensors.shape) for one in self.saved))


def key_of(name: str) -> str:
    """PEFT's name for a tensor of an adapter file."""
    return f"base_model.model.{name}"
