"""What a checkpoint changes in a loaded base: factors of a LoRA, or all tensors as new values.

The tensors of a full checkpoint are read one at a time: one model stays in memory. They take the
places of the base's while the checkpoint is measured, and then the base's own come back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from mashup.checkpoint import Opened, Stored, open_checkpoint
from mashup.delta import Delta, read_delta
from mashup.errors import raise_all
from mashup.model.apply import find
from mashup.model.names import names_in
from mashup.model.shapes import fit_loaded, renamed, shapes_of
from mashup.weights import read_finite


class StoredValues(Mapping[str, Tensor]):
    """Tensors on disk by their names in the base. Each is read when it is asked for."""

    def __init__(self, stored: Mapping[str, Stored]) -> None:
        self._stored = stored

    def __getitem__(self, name: str) -> Tensor:
        return read_finite(self._stored[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def read_change(model: Any, given: Opened | Path) -> Delta:
    """The factors of a LoRA, or all tensors of a full checkpoint as new values of ``model``'s.

    Raises:
        InputError: unreadable, weights that are not finite, or a full checkpoint of another base.
    """
    opened = given if isinstance(given, Opened) else open_checkpoint(given)
    if opened.is_full:
        return Delta({}, saved=StoredValues(full_tensors(model, opened)))
    return read_delta(opened)


def full_tensors(model: Any, given: Opened | Path) -> dict[str, Stored]:
    """Name in ``model`` to place on disk of all tensors of a full checkpoint.

    Raises:
        InputError: unreadable, or a full checkpoint of another base.
    """
    opened = given if isinstance(given, Opened) else open_checkpoint(given)
    base = shapes_of(model)
    raise_all(fit_loaded(opened, base, model, accept_base=True).problems)
    named, _ = renamed(opened, model)
    return {name: stored for name, stored in named.values.items() if name in base.shapes}


def by_own_names(model: Any, delta: Delta) -> Delta:
    """``delta`` by the names of ``model``; a merge of full checkpoints has those of its files."""
    unknown = [name for name in delta.saved if find(model, name) is None]
    if not unknown:
        return delta
    names = names_in(model, unknown)
    saved = {names.get(name, name): value for name, value in delta.saved.items()}
    return replace(delta, saved=saved)
