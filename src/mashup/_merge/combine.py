"""One tensor of a merge: the parents' changes in, rows of the merged delta or value out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mashup._merge.algebra import generator_for
from mashup._merge.changes import CHUNK, Change, Opened, spans
from mashup._merge.methods import Method, Settings
from mashup._merge.methods.method import Trimmer
from mashup._merge.values import OnDisk, Value
from mashup._merge.weighted import NOTHING, Piece, Term, weighted_rows
from mashup.similarity.products import inner

#: ``(start, stop, rows)`` of a tensor, in order.
Pieces = Iterator[tuple[int, int, Tensor]]


@dataclass(frozen=True)
class Recipe:
    """How to merge: the same for every tensor.

    Attributes:
        weights: one a parent.
        keys: what tells the parents apart whatever their order, for random methods.
    """

    method: Method
    settings: Settings
    weights: tuple[float, ...]
    keys: tuple[str, ...]

    @property
    def is_mean(self) -> bool:
        """Whether values are averaged and the base drops out."""
        rest = 1 - self.settings.scale * sum(self.weights)
        return self.method.is_sum and abs(rest) < NOTHING


@dataclass(frozen=True)
class Tensors:
    """One tensor in the base and in the parents.

    Attributes:
        name: in the base.
        shape: of the merged tensor.
        changes: entry ``i`` is what parent ``i`` changes, None for nothing.
        base: None where it is not needed.
    """

    name: str
    shape: tuple[int, ...]
    changes: tuple[Change | None, ...]
    base: Value | None = None

    def in_pieces(self, method: Method) -> Tensors:
        """The same, or one long row of its numbers where one row of it is too large to hold.

        Only of values as they are stored, and not for methods that look at whole rows.
        """
        values = [*(c.value if c else None for c in self.changes), self.base]
        known = [value for value in values if value is not None]
        plain = all(isinstance(value, OnDisk) for value in known)
        more = any(c and (c.lora or c.rows or c.shift) for c in self.changes)
        if math.prod(self.shape[1:]) <= CHUNK or method.by_row or more or not plain:
            return self
        flat = [v.flat() if isinstance(v, OnDisk) else None for v in values]
        changes = tuple(Change(value) if value else None for value in flat[:-1])
        return Tensors(self.name, (math.prod(self.shape),), changes, flat[-1])


def needs_base(recipe: Recipe, changes: Sequence[Change | None]) -> bool:
    """Whether the merged value depends on the base's; not for a mean of whole new values."""
    return not recipe.is_mean or any(change is None or change.value is None for change in changes)


def merged_values(recipe: Recipe, tensors: Tensors) -> Pieces:
    """Rows of the merged tensor, float32 or higher; each is valid until the next is asked for."""
    for piece in merged_pieces(recipe, tensors, compare=False):
        yield piece.start, piece.stop, piece.rows


def merged_pieces(recipe: Recipe, tensors: Tensors, *, compare: bool) -> Iterator[Piece]:
    """Pieces of the merged tensor, with what they change in the base if ``compare``.

    A mixing method is one weighted sum of values in which ``W0`` has what is left to one as
    its coefficient: a single parent of weight one comes back to the bit, and so does a tensor
    that no parent changes.
    """
    base = tensors.base
    if all(change is None for change in tensors.changes):
        yield from weighted_rows([Term(1.0, base)], tensors.shape, base if compare else None)
        return
    if recipe.method.trim:
        assert base is not None  # a trimmed delta is one from the base
        for start, stop, delta in merged_deltas(recipe, tensors):
            stored = base.rows(start, stop)
            if compare:
                yield Piece(start, stop, delta.clone().add_(stored), stored, delta)
            else:
                yield Piece(start, stop, delta.add_(stored))
        return
    opened = open_changes(tensors)
    mixed = coefficients(recipe, tensors, opened)
    terms = [Term(mixed[i], one.value, one) for i, one in opened.items()]
    rest = 1 - sum(term.coefficient for term in terms if term.value is not None)
    left = Term(rest if abs(rest) > NOTHING else 0.0, base)
    yield from weighted_rows([*terms, left], tensors.shape, base if compare else None)


def merged_deltas(recipe: Recipe, tensors: Tensors) -> Pieces:
    """Rows of the merged delta, float32 or higher."""
    opened = open_changes(tensors)
    if recipe.method.trim:
        yield from _trimmed(recipe, tensors, opened)
        return
    mixed = coefficients(recipe, tensors, opened)
    for start, stop in spans(tensors.shape):
        rows = [mixed[i] * one.delta(tensors.base, start, stop) for i, one in opened.items()]
        yield start, stop, torch.stack(rows).sum(0)


def open_changes(tensors: Tensors) -> dict[int, Opened]:
    """Index of a parent to its change; parents that change nothing here are not in it."""
    return {i: Opened.of(change) for i, change in enumerate(tensors.changes) if change is not None}


def coefficients(
    recipe: Recipe, tensors: Tensors, opened: Mapping[int, Opened]
) -> tuple[float, ...]:
    """One a parent, for a mixing method."""
    assert recipe.method.mix is not None
    count = len(recipe.weights)
    gram = torch.zeros(count, count, dtype=torch.float64)
    if recipe.method.needs_gram:
        where = torch.tensor(list(opened))
        gram[where[:, None], where] = _gram(tensors, list(opened.values()))
    mixed = recipe.method.mix(gram, recipe.weights)
    return tuple(recipe.settings.scale * one for one in mixed)


def _gram(tensors: Tensors, opened: Sequence[Opened]) -> Tensor:
    """Inner products of the deltas, ``(n, n)`` in float64; of LoRAs from their factors."""
    loras = [one.factors for one in opened if one.value is None and one.factors]
    if len(loras) == len(opened):
        return torch.stack([torch.stack([inner(f, g) for g in loras]) for f in loras])
    gram = torch.zeros(len(opened), len(opened), dtype=torch.float64)
    for start, stop in spans(tensors.shape):
        rows = torch.stack([one.delta(tensors.base, start, stop).flatten() for one in opened])
        gram += rows.double() @ rows.double().T
    return gram


def _trimmed(recipe: Recipe, tensors: Tensors, opened: Mapping[int, Opened]) -> Pieces:
    """Trim each parent's delta, then sum, or average those of the elected sign."""
    trimmers = {i: _trimmer(recipe, tensors, i, one) for i, one in opened.items()}
    weights = [recipe.weights[i] for i in opened]
    combine = elected_mean if recipe.method.elect else weighted_sum
    for start, stop in spans(tensors.shape):
        rows = [trimmers[i](one.delta(tensors.base, start, stop)) for i, one in opened.items()]
        yield start, stop, combine(rows, weights).mul_(recipe.settings.scale)


def _trimmer(recipe: Recipe, tensors: Tensors, index: int, one: Opened) -> Trimmer:
    def rows() -> Iterator[Tensor]:
        for start, stop in spans(tensors.shape):
            yield one.delta(tensors.base, start, stop).float()

    generator = generator_for(recipe.settings.seed, f"{tensors.name}:{recipe.keys[index]}")
    assert recipe.method.trim is not None
    return recipe.method.trim(rows, math.prod(tensors.shape), recipe.settings, generator)


def weighted_sum(rows: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """``Σ w δ``."""
    total = weights[0] * rows[0]
    for weight, one in zip(weights[1:], rows[1:], strict=True):
        total.add_(one, alpha=weight)
    return total


def elected_mean(rows: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """``Σ w δ / Σ w``, number by number, over those with the sign of ``Σ w δ``; weights ≥ 0.

    arXiv 2306.01708, sections 4.2 and 4.3; a sum of zero counts as positive. Numbers that were
    trimmed to zero have no vote and no part in the mean. One parent after the other and all in
    floats: conversions and new memory cost more than the arithmetic.
    """
    sign = torch.where(weighted_sum(rows, weights) >= 0, 1.0, -1.0).to(rows[0].dtype)
    total, share = torch.zeros_like(sign), torch.zeros_like(sign)
    for weight, one in zip(weights, rows, strict=True):
        agreeing = (one * sign).mul_(weight).clamp_(min=0)
        total.add_(agreeing)
        share.add_(agreeing.sign_(), alpha=weight)
    return total.mul_(sign).div_(share.masked_fill_(share == 0, 1.0))
