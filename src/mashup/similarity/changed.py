"""All that a delta changes, as numbers that can be compared: factors and differences of values."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mashup.delta import Delta, Factors

#: Name of a tensor to the base's value; None where the base has none (a new head).
BaseTensor = Callable[[str], Tensor | None]


def changes(delta: Delta, base: BaseTensor | None = None) -> Iterator[tuple[str, Factors | Tensor]]:
    """Names of modules with their factors, of tensors and of their rows with ``W - W0``.

    One after the other, so that of a full checkpoint there is one tensor in memory at a time.

    A tensor that the base lacks, and rows that its vocabulary lacks, are changes as a whole.
    What lies under a copied module (``Delta.originals``) is left out: it is the base's own,
    resized.

    Args:
        delta: an adapter's.
        base: the base's tensors by name; needed where values or rows are saved.

    Raises:
        ValueError: there are saved values or rows and no base.
    """
    if (delta.saved or delta.rows) and base is None:
        raise ValueError("this delta has saved values; to compare them takes the base's")
    yield from delta.modules.items()
    yield from _values(delta, base)
    yield from _rows(delta, base)


def _values(delta: Delta, base: BaseTensor | None) -> Iterator[tuple[str, Tensor]]:
    """Saved values and biases; where a bias is both, the sum of its changes."""
    shifts = {name: scale * bias.float() for name, (scale, bias) in delta.biases.items()}
    for name, value in delta.saved.items():
        change = _minus(value, base(name) if base else None)
        yield name, change + shifts.pop(name) if name in shifts else change
    yield from shifts.items()


def _rows(delta: Delta, base: BaseTensor | None) -> Iterator[tuple[str, Tensor]]:
    """Each row by its own name, so that adapters with other rows meet in those that both have."""
    for name, (ids, rows) in delta.rows.items():
        old = delta.saved.get(name)
        old = base(name) if old is None and base else old
        for token, row in zip(ids, rows, strict=True):
            before = None if old is None or token >= len(old) else old[token]
            yield f"{name}[{token}]", _minus(row, before)


def _minus(value: Tensor, old: Tensor | None) -> Tensor:
    """``W - W0`` in float32; a larger vocabulary has rows that the base lacks."""
    made = value.to(torch.float32, copy=True)
    if old is not None:
        rows = min(len(made), len(old))
        made[:rows] -= old[:rows].detach().to(made)
    return made
