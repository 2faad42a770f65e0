"""One tensor of a merge: the parents' changes in, rows of the merged value or delta out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import astuple, dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from mashup._merge.algebra import generator_for, squared
from mashup._merge.changes import CHUNK, Change, Loaded, OnDisk, Value, spans
from mashup._merge.methods import METHODS, Method
from mashup._merge.methods.method import Trimmer
from mashup.checkpoint import LoraModule
from mashup.delta import inner
from mashup.errors import Problem
from mashup.settings import MergeSettings

T = TypeVar("T")
#: ``(start, stop, rows)`` of a tensor, in order.
Rows = Iterator[tuple[int, int, Tensor]]
_TRIMS = ("density", "gamma", "epsilon")
#: The number of a layer in the name of a tensor: the first that stands alone.
_LAYER = re.compile(r"(.*?\.)(\d+)\.")
#: A remainder this close to zero is the rounding error of weights that sum to one.
NOTHING = 1e-9


@dataclass(frozen=True)
class Recipe:
    """How to merge: the same for every tensor.

    Attributes:
        method: from the table of methods.
        settings: the numbers that it takes.
        weights: one per parent.
        keys: identify the parents independently of their order, for random methods.
        places: of the parents, in the order that the user gave them; rules name them by it.
        layers: how many layers there are, by the part of tensors' names before the number.
        heads: names of tensors that are averaged, whatever the method: heads of classifiers.
        head_weights: one per parent, for those.
        each: settings of each parent, where rules make them differ.
    """

    method: Method
    settings: MergeSettings
    weights: tuple[float, ...]
    keys: tuple[str, ...]
    places: tuple[int, ...] = ()
    layers: Mapping[str, int] = field(default_factory=dict)
    each: tuple[MergeSettings, ...] = ()
    heads: frozenset[str] = frozenset()
    head_weights: tuple[float, ...] = ()

    def of(self, tensor: str) -> Recipe:
        """The recipe of one tensor, with the numbers that rules give it."""
        if tensor in self.heads:
            mean = {"per_module": (), "normalize": False, "scale": 1.0}
            own = self.settings.model_copy(update=mean)
            return Recipe(METHODS["linear"], own, self.head_weights, self.keys, self.places)
        if not (self.settings.per_module or self.settings.normalize):
            return self
        rules, depth = self.settings.per_module, _depth(tensor, self.layers)

        def number(name: str, place: int | None, plain: Any) -> Any:
            for rule in rules:
                values = getattr(rule, name)
                if values is not None and rule.fits(tensor, place):
                    return _at(values, depth)
            return plain

        pairs = list(zip(self.places, self.weights, strict=True))
        weights = tuple(number("weight", place, weight) for place, weight in pairs)
        if self.settings.normalize and sum(weights):
            weights = tuple(weight / sum(weights) for weight in weights)
        plain = self.settings.model_copy(update={"per_module": (), "normalize": False})
        each = [
            plain.model_copy(update={n: number(n, place, getattr(plain, n)) for n in _TRIMS})
            for place, _ in pairs
        ]
        scale = number("scale", None, plain.scale)
        settings = plain.model_copy(update={"scale": scale})
        return replace(self, settings=settings, weights=weights, each=tuple(each))

    @property
    def scale(self) -> float:
        """λ; ``search`` has been replaced by a number."""
        assert not isinstance(self.settings.scale, str)
        return self.settings.scale

    @property
    def is_mean(self) -> bool:
        """Whether values are averaged, so that the base drops out."""
        return self.method.is_sum and abs(1 - self.scale * sum(self.weights)) < NOTHING


def layer_counts(tensors: Iterable[str]) -> dict[str, int]:
    """How many layers there are, by the part of the names before the number of the layer."""
    counts: dict[str, int] = {}
    for found in filter(None, map(_LAYER.match, tensors)):
        counts[found[1]] = max(counts.get(found[1], 0), int(found[2]) + 1)
    return counts


def _depth(tensor: str, layers: Mapping[str, int]) -> float:
    """From 0 in the first layer to 1 in the last; 0 outside of layers, 1 in an only layer."""
    found = _LAYER.match(tensor)
    if found is None:
        return 0.0
    count = layers.get(found[1], 1)
    return int(found[2]) / (count - 1) if count > 1 else 1.0


def _at(values: Sequence[float], depth: float) -> float:
    """The value of a gradient at a depth, interpolated linearly."""
    place = depth * (len(values) - 1)
    first = min(int(place), len(values) - 1)
    last = min(first + 1, len(values) - 1)
    return (1 - (place - first)) * values[first] + (place - first) * values[last]


def nothing_left(recipe: Recipe) -> Problem:
    """The problem of a merge that equals its base."""
    where = f"`method` {recipe.method.name}, weights {list(recipe.weights)}"
    found, expected = "no change of the base", "a start that differs from the base"
    fix = (
        "where parents cancel or agree on nothing: use `method` linear, other weights, or the base "
        "itself; where rounding removes the changes: `dtype` float32, or `output_kind` lora"
    )
    return Problem("merge changes nothing", where, found, expected, fix)


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

    @property
    def loras(self) -> list[LoraModule]:
        """The parents' LoRA modules of this tensor, in the order of the parents."""
        return [change.lora for change in self.changes if change and change.lora]

    def in_pieces(self, method: Method) -> Tensors:
        """The same tensor, flattened where a single row of it is too large to hold.

        Only for values as they are stored, and not for methods that look at whole rows.
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


class Piece(NamedTuple):
    """Rows ``start`` to ``stop`` of a merged tensor, valid until the next piece is asked for.

    Attributes:
        rows: the merged values, float32 or higher.
        base: the base's values; None where the merge is not compared with the base.
        delta: the change from them, before it is rounded into ``rows``; None likewise.
    """

    start: int
    stop: int
    rows: Tensor
    base: Tensor | None = None
    delta: Tensor | None = None


@dataclass(frozen=True)
class Energy:
    """Squared norms over some tensors, which can be added.

    Attributes:
        total: of the exact delta.
        kept: of the part of it that the rank keeps.
        error: of the difference between what is written and the exact merge.
        parts: of what was summed up, each parent at its full length.
        changed: number of tensors that differ from the base's.
    """

    total: float = 0.0
    kept: float = 0.0
    error: float = 0.0
    parts: float = 0.0
    changed: int = 0

    def __add__(self, other: Energy) -> Energy:
        return Energy(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def relative_error(self) -> float | None:
        """``‖written - exact‖ / ‖exact‖``; None where there is no delta."""
        return (self.error / self.total) ** 0.5 if self.total else None


def energy_of(piece: Piece, written: Tensor) -> Energy:
    """The energies of one piece as it is written.

    The change is compared before it is added to the base. Once rounded into a float32 sum, the
    loss could not be seen any more.
    """
    if piece.base is None or piece.delta is None:
        return Energy(changed=1)
    moved = written.to(piece.rows.dtype, copy=True).sub_(piece.base)
    changed = bool(moved.any())
    total = squared(piece.delta)
    return Energy(total, total, squared(moved.sub_(piece.delta)), changed=int(changed))


def merged_values(recipe: Recipe, tensors: Tensors) -> Rows:
    """Rows of the merged tensor, float32 or higher; each is valid until the next is asked for."""
    for piece in merged_pieces(recipe, tensors, compare=False):
        yield piece.start, piece.stop, piece.rows


def merged_pieces(recipe: Recipe, tensors: Tensors, *, compare: bool) -> Iterator[Piece]:
    """Pieces of the merged tensor, with their change of the base if ``compare``.

    A mixing method is one weighted sum of values, in which the coefficient of ``W0`` is one
    minus the sum of the others. So a single parent of weight one comes back to the bit, and so
    does a tensor that no parent changes.
    """
    base, recipe = tensors.base, recipe.of(tensors.name)
    if all(change is None for change in tensors.changes):
        yield from _weighted_rows([_Term(1.0, base)], tensors.shape, base if compare else None)
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
    loaded = load_changes(tensors)
    mixed = coefficients(recipe, tensors, loaded)
    terms = [_Term(mixed[i], one.value, one) for i, one in loaded.items()]
    rest = 1 - sum(term.coefficient for term in terms if term.value is not None)
    left = _Term(rest if abs(rest) > NOTHING else 0.0, base)
    yield from _weighted_rows([*terms, left], tensors.shape, base if compare else None)


def merged_deltas(recipe: Recipe, tensors: Tensors) -> Rows:
    """Rows of the merged delta, float32 or higher."""
    recipe = recipe.of(tensors.name)
    loaded = load_changes(tensors)
    if recipe.method.trim:
        yield from _trimmed(recipe, tensors, loaded)
        return
    mixed = coefficients(recipe, tensors, loaded)
    for start, stop in spans(tensors.shape):
        rows = [mixed[i] * one.delta(tensors.base, start, stop) for i, one in loaded.items()]
        yield start, stop, torch.stack(rows).sum(0)


def load_changes(tensors: Tensors) -> dict[int, Loaded]:
    """Index of a parent to its change; parents that change nothing here are not in it."""
    return {i: Loaded.of(change) for i, change in enumerate(tensors.changes) if change is not None}


def coefficients(
    recipe: Recipe, tensors: Tensors, loaded: Mapping[int, Loaded]
) -> tuple[float, ...]:
    """One per parent, for a mixing method."""
    recipe = recipe.of(tensors.name)
    assert recipe.method.mix is not None
    count = len(recipe.weights)
    gram = torch.zeros(count, count, dtype=torch.float64)
    if recipe.method.needs_gram:
        where = torch.tensor(list(loaded))
        gram[where[:, None], where] = _gram(tensors, list(loaded.values()))
    mixed = recipe.method.mix(gram, recipe.weights)
    return tuple(recipe.scale * one for one in mixed)


def _gram(tensors: Tensors, loaded: Sequence[Loaded]) -> Tensor:
    """Inner products of the deltas, ``(n, n)`` in float64; those of LoRAs from their factors."""
    loras = [one.factors for one in loaded if one.value is None and one.factors]
    if len(loras) == len(loaded):
        return torch.stack([torch.stack([inner(f, g) for g in loras]) for f in loras])
    gram = torch.zeros(len(loaded), len(loaded), dtype=torch.float64)
    for start, stop in spans(tensors.shape):
        rows = torch.stack([one.delta(tensors.base, start, stop).flatten() for one in loaded])
        gram += rows.double() @ rows.double().T
    return gram


def _trimmed(recipe: Recipe, tensors: Tensors, loaded: Mapping[int, Loaded]) -> Rows:
    """Trim each parent's delta, then sum, or average those with the elected sign."""
    trimmers = {i: _trimmer(recipe, tensors, i, one) for i, one in loaded.items()}
    weights = [recipe.weights[i] for i in loaded]
    combine = _elected_mean if recipe.method.elect else _weighted_sum
    for start, stop in spans(tensors.shape):
        rows = [trimmers[i](one.delta(tensors.base, start, stop)) for i, one in loaded.items()]
        yield start, stop, combine(rows, weights).mul_(recipe.scale)


def _trimmer(recipe: Recipe, tensors: Tensors, index: int, one: Loaded) -> Trimmer:
    def rows() -> Iterator[Tensor]:
        for start, stop in spans(tensors.shape):
            yield one.delta(tensors.base, start, stop).float()

    generator = generator_for(recipe.settings.seed, f"{tensors.name}:{recipe.keys[index]}")
    assert recipe.method.trim is not None
    settings = recipe.each[index] if recipe.each else recipe.settings
    return recipe.method.trim(rows, math.prod(tensors.shape), settings, generator)


def _weighted_sum(rows: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """``Σ w δ``."""
    total = weights[0] * rows[0]
    for weight, one in zip(weights[1:], rows[1:], strict=True):
        total.add_(one, alpha=weight)
    return total


def _elected_mean(rows: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """``Σ w δ / Σ w``, number by number, over those with the sign of ``Σ w δ``; weights ≥ 0.

    arXiv 2306.01708, sections 4.2 and 4.3; a sum of zero counts as positive. A number that was
    trimmed to zero has no vote and no part in the mean. Parents are handled one after the other
    and in floats, since conversions and new memory cost more than the arithmetic.
    """
    sign = torch.where(_weighted_sum(rows, weights) >= 0, 1.0, -1.0).to(rows[0].dtype)
    total, share = torch.zeros_like(sign), torch.zeros_like(sign)
    for weight, one in zip(weights, rows, strict=True):
        agreeing = (one * sign).mul_(weight).clamp_(min=0)
        total.add_(agreeing)
        share.add_(agreeing.sign_(), alpha=weight)
    return total.mul_(sign).div_(share.masked_fill_(share == 0, 1.0))


@dataclass(frozen=True)
class _Term:
    """``coefficient × (value + the LoRA of change)``; either of the two may be absent."""

    coefficient: float
    value: Value | None
    change: Loaded | None = None


def _weighted_rows(
    terms: Sequence[_Term], shape: tuple[int, ...], base: Value | None
) -> Iterator[Piece]:
    """The pieces of a weighted sum, with the base's values and the delta if ``base`` is given.

    The inner loop of full merges: all memory is allocated once, since allocating it anew for
    each piece costs more than the sum.
    """
    used = [term for term in terms if term.coefficient != 0]
    dtype = torch.float32
    for term in used:
        dtype = torch.promote_types(dtype, term.value.dtype) if term.value else dtype
    pieces = list(spans(shape))
    row = [pieces[0][1] - pieces[0][0], *shape[1:]]
    whole = [torch.empty(row, dtype=dtype) for _ in range(2 if base is None else 4)]
    buffer = torch.empty(whole[0].numel() * dtype.itemsize, dtype=torch.uint8)
    for start, stop in pieces:
        rows, scratch, *compared = (one[: stop - start] for one in whole)
        if base is not None:
            compared[0].copy_(base.rows(start, stop, buffer))
        piece = Piece(start, stop, rows, *compared)
        _add_up(used, piece, base, scratch, buffer)
        yield piece


def _add_up(
    terms: Sequence[_Term], piece: Piece, base: Value | None, scratch: Tensor, buffer: Tensor
) -> None:
    """``rows = Σ c·(V + s·B·A)``; values of smaller types are converted in ``scratch``."""
    start, stop, rows, origin, delta = piece
    fresh = True
    if delta is not None:
        delta.zero_()
    for term in terms:
        if term.value is None:
            continue
        known = origin if term.value is base else None
        stored = term.value.rows(start, stop, buffer) if known is None else known
        if fresh:
            rows.copy_(stored).mul_(term.coefficient)
            fresh = False
        else:
            rows.add_(scratch.copy_(stored), alpha=term.coefficient)
        if delta is not None and origin is not None and known is None:
            delta.add_(scratch.copy_(stored).sub_(origin), alpha=term.coefficient)
    if fresh:
        rows.zero_()
    for term in terms:
        made = term.change.addition(start, stop) if term.change else None
        if made is not None:
            rows.add_(made, alpha=term.coefficient)
            if delta is not None:
                delta.add_(made, alpha=term.coefficient)


def run_all(jobs: Iterable[Callable[[], T]]) -> list[T]:
    """Results of ``jobs`` in their order, on all cores; the first error stops the rest.

    A job is a tensor or a module. One thread per job wastes less than all of torch's threads on
    one job after the other. The number of torch's threads is restored afterwards.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        futures = [pool.submit(job) for job in jobs]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()  # raises what went wrong
        return [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
