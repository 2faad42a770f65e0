"""Compare a checkpoint with a base model: name, sizes, ties, vocabulary, tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mashup._check.content import Content
from mashup.checkpoint import Stored, locate, same_base
from mashup.checkpoint.architecture import architecture_problem
from mashup.checkpoint.averaging import average_problem
from mashup.checkpoint.identity import read_config
from mashup.checkpoint.placement import COMPUTED, Shape, coverage
from mashup.checkpoint.read import refuse_quantised
from mashup.checkpoint.ties import breaks_tie, read_untied, tie_problem, with_head
from mashup.checkpoint.tokens import Place, differ, embedding_place, read_tables
from mashup.checkpoint.vocabulary import BY_TOKEN
from mashup.errors import InputError, Problem

_TIED = (
    "changes one of two tied weights: merges as a LoRA, and into a whole model only with --untie"
)


@dataclass(frozen=True)
class Base:
    """A base model by its headers.

    Attributes:
        name: as the user gave it.
        folder: where its files are.
        tensors: name to place, a tied model's without the head.
        tied: whether its output head is its embedding.
    """

    name: str
    folder: Path
    tensors: Mapping[str, Stored]
    tied: bool

    @classmethod
    def read(cls, name: str | Path) -> Base:
        """Read a base's config and headers.

        Raises:
            InputError: a base that cannot be found or read, or one that is quantised.
        """
        folder = locate(name)
        refuse_quantised(folder)
        return cls(str(name), folder, *read_untied(folder))

    @property
    def embeddings(self) -> Place | None:
        return embedding_place(self.folder, {n: one.shape for n, one in self.tensors.items()})


def compare(content: Content, base: Base, *, accept_base: bool) -> tuple[list[Problem], list[str]]:
    """Problems of merging a checkpoint into a base, and notes for the user."""
    where, whole = str(content.checkpoint.path), content.is_whole
    problems = [] if accept_base else _identity(content, base)
    places: Mapping[str, Shape] = {name: stored.shape for name, stored in base.tensors.items()}
    unlike, notes = _vocabulary(content, base)
    try:
        shapes = _with_rows_of(base, content, content.shapes(places, read_config(base.folder)))
    except InputError as error:
        return [*problems, *unlike, *error.problems], notes
    if breaks_tie(content.apart, base.tensors, whole=whole, tied=base.tied):
        problems += [tie_problem(where, tied=base.tied)] if whole else []
        notes += [] if whole else [_TIED]
        places = with_head(places)  # told once: the head is no tensor without a place as well
        shapes = with_head(shapes) if whole else shapes
    found = coverage(shapes, places, whole=whole)
    return [*problems, *unlike, *found.problems(where), *_types(content, base)], notes


def _types(content: Content, base: Base) -> list[Problem]:
    """Tensors that are no weights and not as the base's."""
    both = [n for n in content.values if n in base.tensors and not n.endswith(COMPUTED)]
    found = (average_problem(n, content.values[n], base.tensors[n]) for n in both)
    return [problem for problem in found if problem]


def _identity(content: Content, base: Base) -> list[Problem]:
    """Another name, or other settings that no tensor's shape shows (heads, activation)."""
    checkpoint, problems = content.checkpoint, []
    if same_base(checkpoint.base, base.name) is False:
        where, found = str(checkpoint.path), checkpoint.base
        fix = "give its own base, or pass `accept_base` if it is the same model"
        problems.append(Problem("checkpoints of different bases", where, found, base.name, fix))
    other = architecture_problem(checkpoint.path, base.folder) if content.is_whole else None
    return [*problems, other] if other else problems


def _vocabulary(content: Content, base: Base) -> tuple[list[Problem], list[str]]:
    """Whether rows can be aligned by token, where the vocabularies are not one."""
    own, known = content.embeddings, base.embeddings
    if own is None or known is None or not differ(known, own):
        return [], []
    try:
        tables = read_tables(known, [own], None)
    except InputError as error:
        return list(error.problems), []
    if tables.are_one:
        return [], []
    new = len(tables.parents[0].keys() - tables.base.keys())
    lost = len(tables.base.keys() - tables.parents[0].keys())
    return [], [
        f"another vocabulary than the base's ({new} tokens more, {lost} fewer): "
        "a merge aligns rows by token"
    ]


def _with_rows_of(
    base: Base, content: Content, shapes: Mapping[str, Sequence[Shape]]
) -> dict[str, Sequence[Shape]]:
    """What the checkpoint changes, as if its vocabulary were aligned with the base's already."""
    rows = base.embeddings[1] if base.embeddings else 0
    aligned = {
        name: [(rows, *stored.shape[1:])]
        for name, stored in content.values.items()
        if rows and name.endswith(BY_TOKEN)
    }
    return dict(shapes) | aligned
