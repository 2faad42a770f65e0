"""Heads of classifiers in a merge: averaged, taken from one parent, or left out.

What is below the heads is merged by the method. A head belongs to labels, and has no counterpart
in the base, so it is either the weighted mean of heads for the same labels, or one of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mashup._merge.changes import Change, OnDisk
from mashup._merge.combine import Tensors
from mashup._merge.parents import Parent
from mashup.checkpoint.full import read_tensors
from mashup.checkpoint.heads import (
    TASKS,
    class_of,
    head_of,
    is_classifier,
    is_head,
    labels_of,
    without_head,
)
from mashup.errors import InputError, Problem, UsageError, raise_all

_FROM = "from="
_FIX = "give `head` drop for a start without a head, or from=NAME for that of one checkpoint"


@dataclass(frozen=True)
class Heads:
    """What a merge of classifiers has in addition to the merged model.

    Attributes:
        tensors: of the head and the pooler, the same change for all parents where one gives it.
        weights: one per parent, with the sum 1.
        config: ``config.json`` that a full result follows; None for that of the base.
        task_type: for PEFT.
        asked: the setting, with the number of a parent instead of its name.
    """

    tensors: tuple[Tensors, ...]
    weights: tuple[float, ...]
    config: Mapping[str, Any] | None
    task_type: str
    asked: str

    @property
    def names(self) -> frozenset[str]:
        return frozenset(one.name for one in self.tensors)

    @property
    def modules(self) -> set[str]:
        """What PEFT has to save as a whole."""
        return {one.name.partition(".")[0] for one in self.tensors if is_head(one.name)}


def split_heads(
    parents: Sequence[Parent], head: str, base: Path | None
) -> tuple[Sequence[Parent], Heads | None]:
    """The parents without the heads of classifiers, and what becomes of these.

    Args:
        parents: those that count.
        head: ``merge``, ``drop`` or ``from=NAME``; the name, or the number, of a parent.
        base: folder of the base.

    Raises:
        UsageError: a ``head`` that is none of these, or no parent of that name.
        InputError: ``merge``, and heads for other labels or of other shapes; a pooler that neither
            some parents nor the base have.
    """
    if not any(is_classifier(parent.opened) for parent in parents):
        if head != "merge":
            found = "none of the checkpoints is a classifier"
            raise UsageError(Problem("no head to choose", f"`head` {head}", found))
        return parents, None
    owner = _owner(parents, head)
    whole = base is not None and any(parent.is_full for parent in parents)
    known = read_tensors(base) if base and whole else {}
    own = apart = [head_of(parent.opened, known) for parent in parents]
    if head == "drop":
        own = [{name: s for name, s in one.items() if not is_head(name)} for one in own]
    elif owner is not None:
        own = [own[owner]] * len(parents)
    else:
        _refuse_others(parents, own)
    names = set().union(*own)
    raise_all(
        _lacking(parent, names - one.keys()) for parent, one in zip(parents, own, strict=True)
    )
    tensors = [
        Tensors(name, own[0][name].shape, tuple(Change(OnDisk(one[name])) for one in own))
        for name in sorted(names)
    ]
    asked = head if owner is None else f"{_FROM}{parents[owner].place + 1}"
    config = _config(parents, head, owner)
    heads = Heads(tuple(tensors), _weights(parents, owner), config, _task(parents, head), asked)
    bare = [without_head(p.opened, one) for p, one in zip(parents, apart, strict=True)]
    return [replace(p, opened=one) for p, one in zip(parents, bare, strict=True)], heads


def _lacking(parent: Parent, names: Collection[str]) -> Problem | None:
    """The problem of a pooler that neither this parent nor the base has."""
    if not names:
        return None
    found, fix = f"no {min(names)}, and none in the base", "give a base that was saved with it"
    return Problem("tensors missing", str(parent.path), found, "what the other parents have", fix)


def _owner(parents: Sequence[Parent], head: str) -> int | None:
    """Place in ``parents`` of the one whose head is kept, None for ``merge`` and ``drop``.

    Raises:
        UsageError: no such word, or no such parent.
    """
    if head in ("merge", "drop"):
        return None
    name = head.removeprefix(_FROM)
    names = [{one.checkpoint.name, str(one.path), str(one.place + 1)} for one in parents]
    found = [place for place, known in enumerate(names) if name in known]
    if head.startswith(_FROM) and found:
        return found[0]
    known = ", ".join(parent.checkpoint.name for parent in parents)
    expected = f"merge, drop, or from= and one of {known}, or its number"
    raise UsageError(Problem("no such head", "`head`", head, expected))


def _refuse_others(parents: Sequence[Parent], own: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to average heads of other labels, other shapes, or of some parents only.

    Raises:
        InputError: a problem for each parent whose head is not like the first.
    """
    both = sorted(zip(parents, own, strict=True), key=lambda pair: pair[0].place)
    labels: list[Any] = [labels_of(parent.opened.settings) for parent, _ in both]
    named = next((one for one in labels if one), ())
    shapes = [{n: s.shape for n, s in one.items() if is_head(n)} for _, one in both]
    problems = []
    for (parent, _), own_labels, own_shapes in zip(both, labels, shapes, strict=True):
        found, expected = "", ""
        if own_shapes != shapes[0]:
            found, expected = _text(own_shapes), _text(shapes[0])
        elif own_labels and own_labels != named:
            found, expected = ", ".join(own_labels), ", ".join(named)
        if found:
            expected = f"{expected[:200]}, as in the others"
            where = str(parent.path)
            problems.append(Problem("heads for other labels", where, found[:200], expected, _FIX))
    if problems:
        raise InputError(*problems)


def _text(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "nothing"


def _weights(parents: Sequence[Parent], owner: int | None) -> tuple[float, ...]:
    """The parents' weights, divided by their sum; equal ones where that is no mean."""
    if owner is not None:
        return tuple(float(place == owner) for place in range(len(parents)))
    weights = [parent.weight for parent in parents]
    if min(weights) < 0 or not sum(weights) > 0:
        weights = [1.0] * len(parents)
    return tuple(weight / sum(weights) for weight in weights)


def _config(parents: Sequence[Parent], head: str, owner: int | None) -> dict[str, Any] | None:
    """Settings with the labels of the head that the result has, or those of the bare model."""
    full = [p for p in sorted(parents, key=lambda p: p.place) if p.is_full]
    chosen = next((p for p in full if owner is not None and p is parents[owner]), None)
    chosen = chosen or next(iter(full), None)
    if chosen is None:
        return None
    config = dict(chosen.opened.settings)
    if head == "drop":
        for name in ("id2label", "label2id", "num_labels", "problem_type"):
            config.pop(name, None)
        config["architectures"] = [class_of(config).partition("For")[0] + "Model"]
    return config


def _task(parents: Sequence[Parent], head: str) -> str:
    """PEFT's name of what the classifiers do; "" without a head, which PEFT would look for."""
    if head == "drop":
        return ""
    stated = [p.opened.config.raw.get("task_type") for p in parents if p.opened.config]
    tokens = any(class_of(p.opened.settings).endswith("TokenClassification") for p in parents)
    return next((one for one in stated if one in TASKS), TASKS[int(tokens)])
