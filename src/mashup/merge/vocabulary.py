"""Align embeddings of different vocabularies by token string, never by row number.

Every parent's row of a token comes from where its own tokenizer has that token. A token that
a parent lacks has the base's row, a delta of zero. A token that the base lacks starts at the
mean of the parents that have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from mashup.checkpoint.vocabulary import read_vocabulary, rows_by_token
from mashup.errors import InputError, Problem
from mashup.merge.changes import Change, Value

#: Ends of the names of input embeddings, and of all tensors that have one row a token.
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
BY_TOKEN = (*EMBEDDINGS, "lm_head.weight", "lm_head.bias", "embed_out.weight")


@dataclass(frozen=True)
class Aligned:
    """Rows of ``value`` in another order; ``index[j]`` is the row that becomes row ``j``.

    Where it is -1 the row comes from ``fallback``, which has the shape of the result.
    """

    value: Value
    index: Tensor
    fallback: Value | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.index), *self.value.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        return self.value.dtype

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


@dataclass(frozen=True)
class InMemory:
    """A tensor that is small, or made here."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype

    def rows(self, start: int, stop: int, buffer: Tensor | None = None) -> Tensor:
        del buffer
        return self.tensor[start:stop]


@dataclass(frozen=True)
class Vocabularies:
    """Token to row of the result, the base and each parent."""

    folder: Path
    result: Mapping[str, int]
    base: Mapping[str, int]
    parents: tuple[Mapping[str, int], ...]

    @property
    def are_one(self) -> bool:
        """Whether nothing has to be moved."""
        return all(one == self.result for one in (self.base, *self.parents))

    def index(self, own: Mapping[str, int]) -> Tensor:
        """``(rows of the result,)``: the row of ``own`` with the same token, -1 where none is."""
        index = torch.full((1 + max(self.result.values()),), -1)
        for token, row in self.result.items():
            index[row] = own.get(token, -1)
        return index

    def align(
        self, base: Value, changes: Sequence[Change | None]
    ) -> tuple[Value, list[Change | None]]:
        """One tensor of the base and what the parents change in it, in rows of the result.

        Raises:
            InputError: a LoRA on a tensor whose rows would have to move.
        """
        if any(change and (change.lora or change.rows) for change in changes):
            raise InputError(_lora_on_embeddings())
        own = [
            Aligned(change.value, self.index(rows)) if change and change.value else None
            for change, rows in zip(changes, self.parents, strict=True)
        ]
        moved = self._base(base, own)
        filled = [replace(one, fallback=moved) if one else None for one in own]
        return moved, [Change(one) if one else None for one in filled]

    def _base(self, base: Value, parents: Sequence[Aligned | None]) -> Value:
        """The base's rows, with means of the parents where it lacks a token."""
        index = self.index(self.base)
        new = (index < 0).nonzero().flatten().tolist()
        rows = torch.zeros(len(index), *base.shape[1:], dtype=base.dtype) if new else None
        for row in new:
            has = [p for p in parents if p is not None and int(p.index[row]) >= 0]
            found = [p.rows(row, row + 1)[0].float() for p in has]
            if found and rows is not None:
                rows[row] = torch.stack(found).mean(0).to(base.dtype)
        return Aligned(base, index, InMemory(rows) if rows is not None else None)


def _lora_on_embeddings() -> Problem:
    found = "a LoRA on embeddings, and parents of other vocabularies"
    fix = "merge it into its base first (merge_and_unload) and give that as a full checkpoint"
    return Problem("vocabularies differ", "parents", found, "one vocabulary", fix)


def read_vocabularies(
    base: tuple[Path, int], parents: Sequence[tuple[Path, int] | None], chosen: Path | None
) -> Vocabularies:
    """Vocabularies of the base and the parents, each ``(folder, rows of its embedding)``.

    A parent without embeddings (None) has the base's. The result's is the one that ``chosen``
    names, else the first that holds every token of the others.

    Raises:
        InputError: no tokenizer to align by, none that holds all tokens, or a ``chosen`` folder
            that is neither the base's nor a parent's.
    """
    own = [_rows(*one) if one else None for one in (base, *parents)]
    known = own[0]
    assert known is not None
    folders = [base[0], *(one[0] if one else base[0] for one in parents)]
    tables = [one if one is not None else known for one in own]
    tokens = set().union(*({t for t in one if not t.startswith("\0")} for one in tables))
    complete = [f for f, one in zip(folders, tables, strict=True) if tokens <= one.keys()]
    folder = chosen or (complete[0] if complete else None)
    if folder is None:
        raise InputError(_no_superset(folders, tables))
    places = [f.resolve() for f in folders]
    if folder.resolve() not in places:
        raise InputError(_of_another(folder, folders))
    place = places.index(folder.resolve())
    return Vocabularies(folders[place], tables[place], tables[0], tuple(tables[1:]))


def _rows(folder: Path, rows: int) -> dict[str, int]:
    vocabulary = read_vocabulary(folder)
    fix = "copy the tokenizer of the run into the folder"
    if vocabulary is None:
        found, expected = "no tokenizer.json", "one, to align rows by token"
        raise InputError(Problem("no tokenizer", str(folder), found, expected, fix))
    try:
        return rows_by_token(vocabulary, rows)
    except ValueError as error:
        expected = "a row for every token"
        raise InputError(
            Problem("damaged tokenizer", str(folder), str(error), expected, fix)
        ) from error


def _of_another(folder: Path, folders: Sequence[Path]) -> Problem:
    expected = "the base's folder or a parent's: " + ", ".join(sorted({str(f) for f in folders}))
    fix = "give one of these; other tokens have no rows to take"
    return Problem("tokenizer of another model", str(folder), "neither", expected, fix)


def _no_superset(folders: Sequence[Path], tables: Sequence[Mapping[str, int]]) -> Problem:
    sizes = ", ".join(f"{f.name} {len(t):,}" for f, t in zip(folders, tables, strict=True))
    fix = (
        "pass --tokenizer with the folder of one of them: the result has its tokens, and those "
        "that it lacks are dropped"
    )
    expected = "one tokenizer that holds the tokens of all"
    return Problem("vocabularies differ", "parents", sizes, expected, fix)
