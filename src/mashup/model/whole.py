"""A whole model as a change of a loaded base: all its tensors as new values, read one at a time.

One model stays in memory; a checkpoint's tensors take the places of the base's while it is
measured, and the base's own come back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mashup.checkpoint import Stored
from mashup.checkpoint.architecture import computing_problem
from mashup.checkpoint.identity import read_config
from mashup.checkpoint.ties import read_untied
from mashup.delta import Delta
from mashup.errors import InputError, Problem
from mashup.model.names import names_in
from mashup.model.swap import find
from mashup.weights import read_finite

#: What :func:`whole_problem` calls a model of other tensors or shapes.
OTHER_MODEL = "whole model of another base"


class StoredValues(Mapping[str, Tensor]):
    """Tensors on disk by their names in the base; each is read when it is asked for."""

    def __init__(self, stored: Mapping[str, Stored]) -> None:
        self._stored = stored

    def __getitem__(self, name: str) -> Tensor:
        return read_finite(self._stored[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def read_whole(model: Any, folder: Path) -> Delta:
    """All tensors of a whole model as new values of ``model``'s.

    Raises:
        InputError: unreadable, weights that are not finite, or a whole model of another base.
    """
    return Delta({}, saved=StoredValues(whole_tensors(model, folder)))


def whole_tensors(model: Any, folder: Path) -> dict[str, Stored]:
    """Name in ``model`` to place on disk of all tensors of a whole model.

    Raises:
        InputError: unreadable, or a whole model of another base.
    """
    stored, problem = _stored(model, folder)
    if problem:
        raise InputError(problem)
    return stored


def whole_problem(model: Any, folder: Path) -> Problem | None:
    """Why a whole model is none of this base's architecture; from headers and ``config.json``.

    Every parameter must be there in the base's shape, nothing else may be, and what
    ``config.json`` says of how the weights are used must be the same.

    Raises:
        InputError: unreadable.
    """
    problem = computing_problem(folder, read_config(folder), model.config.to_dict())
    return problem or _stored(model, folder)[1]


def _stored(model: nn.Module, folder: Path) -> tuple[dict[str, Stored], Problem | None]:
    """Its tensors by the base's names, and why they are not the base's."""
    tensors, tied = read_untied(folder)
    if tied != _is_tied(model):
        return tensors, _tie_problem(folder, tied)
    own = {name for name, _ in model.named_parameters()}
    places = names_in(model, tensors)
    named = {place: tensors[name] for name, place in places.items()}
    stored = {name: one for name, one in named.items() if name in own or not _is_old(name)}
    faults = (_fault(model, name, stored.get(name)) for name in sorted(own | stored.keys()))
    found = [*_shared(tensors, places), *(fault for fault in faults if fault)]
    return stored, _other_model(model, folder, found) if found else None


def _shared(tensors: Iterable[str], places: Mapping[str, str]) -> list[str]:
    """Tensors that have no place in the base for themselves."""
    counts = Counter(places.values())
    joined = [f"{name}: joined with others on loading" for name in tensors if name not in places]
    return joined + [f"{name}: twice in it" for name, one in places.items() if counts[one] > 1]


def _other_model(model: nn.Module, folder: Path, faults: Sequence[str]) -> Problem:
    fix = "give the base that it was trained from, or leave it out"
    found = f"{len(faults)} tensors differ, the first {faults[0]}"
    return Problem(OTHER_MODEL, str(folder), found, f"tensors of {type(model).__name__}", fix)


def _is_tied(model: Any) -> bool:
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def _tie_problem(folder: Path, tied: bool) -> Problem:
    own, shared = "an output head of its own", "a head that is tied to the embedding"
    found, expected = (shared, own) if tied else (own, shared)
    fix = "leave it out; 'mashup merge' by name has --untie"
    return Problem(OTHER_MODEL, str(folder), found, f"{expected}, as the base has", fix)


def _is_old(name: str) -> bool:
    """Buffers that old versions of transformers saved and that are computed now."""
    return name.endswith((".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"))


def _fault(model: nn.Module, name: str, stored: Stored | None) -> str | None:
    own = find(model, name)
    if stored is None:
        return f"{name}: none in it"
    if own is None:
        return f"{name}: none in the base"
    base, found = tuple(own.shape), stored.shape
    return None if base == found else f"{name}: {found} in it, {base} in the base"
