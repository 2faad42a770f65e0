"""Align embeddings of different vocabularies by token string, never by row number.

A parent's row of a token is the one that its own tokenizer gives. A token that a parent lacks
has the base's row, which is a delta of zero. A token that the base lacks starts at the mean of
the parents that have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from mashup._merge.changes import Change, InMemory, Value
from mashup._merge.parents import Parent
from mashup.checkpoint.vocabulary import BY_TOKEN, Tables, read_vocabulary
from mashup.errors import InputError, Problem


@dataclass(frozen=True)
class Aligned:
    """Rows of ``value`` in another order.

    Attributes:
        value: the tensor as stored.
        index: entry ``j`` is the row of ``value`` that becomes row ``j``, -1 for none.
        fallback: rows where the index is -1, in the shape of the result; None for zeros.
    """

    value: Value
    index: Tensor
    fallback: Value | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.index), *self.value.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """Wide enough for both, so that a row of the fallback is not rounded."""
        other = self.value.dtype if self.fallback is None else self.fallback.dtype
        return torch.promote_types(self.value.dtype, other)

    def rows(self, start: int, stop: int, buffer: Tensor | None = None) -> Tensor:
        del buffer
        made = torch.zeros(stop - start, *self.value.shape[1:], dtype=self.dtype)
        wanted = self.index[start:stop]
        if self.fallback is not None and bool((wanted < 0).any()):
            made = self.fallback.rows(start, stop).to(self.dtype, copy=True)
        breaks = (wanted.diff() != 1).nonzero().flatten().add(1).tolist()
        for first, last in pairwise([0, *breaks, len(wanted)]):
            source = int(wanted[first])
            if source >= 0:
                made[first:last] = self.value.rows(source, source + last - first)
        return made


def align(
    tables: Tables, base: Value, changes: Sequence[Change | None]
) -> tuple[Value, list[Change | None]]:
    """One tensor of the base and the parents' changes of it, in rows of the result.

    Raises:
        InputError: a LoRA on a tensor whose rows would have to move.
    """
    if any(change and (change.lora or change.rows) for change in changes):
        raise InputError(_lora_on_embeddings())
    own = [
        Aligned(change.value, torch.tensor(tables.rows(rows))) if change and change.value else None
        for change, rows in zip(changes, tables.parents, strict=True)
    ]
    moved = _base(tables, base, own)
    filled = [replace(one, fallback=moved) if one else None for one in own]
    return moved, [Change(one) if one else None for one in filled]


def _base(tables: Tables, base: Value, parents: Sequence[Aligned | None]) -> Value:
    """The base's rows, with means of the parents where it lacks a token."""
    index = torch.tensor(tables.rows(tables.base))
    new = (index < 0).nonzero().flatten().tolist()
    rows = torch.zeros(len(index), *base.shape[1:], dtype=base.dtype) if new else None
    for row in new:
        has = [p for p in parents if p is not None and int(p.index[row]) >= 0]
        found = [p.rows(row, row + 1)[0].float() for p in has]
        if found and rows is not None:
            rows[row] = torch.stack(found).mean(0).to(base.dtype)
    return Aligned(base, index, InMemory(rows) if rows is not None else None)


def number_problems(parents: Sequence[Parent]) -> list[Problem]:
    """The problem of rows that parents change by number, in vocabularies that differ.

    Rows are changed by number by a LoRA on embeddings and by ``trainable_token_indices``.
    """
    own = [
        (p, [change for name, change in p.changes.items() if name.endswith(BY_TOKEN)])
        for p in parents
    ]
    by_number = any(change.lora or change.rows for _, changes in own for change in changes)
    if not by_number:
        return []
    known = [read_vocabulary(p.path) for p, changes in own if changes]
    given = [one for one in known if one is not None]
    return [] if all(one == given[0] for one in given) else [_lora_on_embeddings()]


def _lora_on_embeddings() -> Problem:
    found = "a LoRA on embeddings or rows of tokens, and parents with different vocabularies"
    fix = "merge it into its base first (merge_and_unload) and give that as a full checkpoint"
    return Problem("vocabularies differ", "parents", found, "one vocabulary", fix)
