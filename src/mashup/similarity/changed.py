"""All that a delta changes, as numbers that can be compared: factors and differences of values."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mashup.delta import Delta, Factors

#: Name of a tensor to the base's value; None where the base has none (a new head).
BaseTensor = Callable[[str], Tensor | None]


def changes(delta: Delta, base: BaseTensor | None = None) -> Mapping[str, Factors | Tensor]:
    """Name of a module to its factors, of a tensor or of one of its rows to ``W - W0``.

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
    made: dict[str, Factors | Tensor] = dict(delta.modules)
    made |= _values(delta, base)
    made |= _rows(delta, base)
    return made


def _values(delta: Delta, base: BaseTensor | None) -> dict[str, Tensor]:
    """Saved values and biases; where a bias is both, the sum of its changes."""
    made = {n: _minus(v, base(n) if base else None) for n, v in delta.saved.items()}
    for name, (scale, bias) in delta.biases.items():
        shift = scale * bias.float()
        made[name] = made[name] + shift if name in made else shift
    return made


def _rows(delta: Delta, base: BaseTensor | None) -> dict[str, Tensor]:
    """Each row by its own name, so that adapters with other rows meet in those that both have."""
    made = {}
    for name, (ids, rows) in delta.rows.items():
        old = delta.saved.get(name)
        old = base(name) if old is None and base else old
        for token, row in zip(ids, rows, strict=True):
            before = None if old is None or token >= len(old) else old[token]
            made[f"{name}[{token}]"] = _minus(row, before)
    return made


def _minus(value: Tensor, old: Tensor | None) -> Tensor:
    """``W - W0`` in float32; a larger vocabulary has rows that the base lacks."""
    made = value.to(torch.float32, copy=True)
    if old is not None:
        rows = min(len(made), len(old))
        made[:rows] -= old[:rows].detach().to(made)
    return made
