"""Merge checkpoints into an init: a standard PEFT or model folder that any trainer loads."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from mashup._merge.combine import Recipe
from mashup._merge.full import LIBRARIES, FullPlan, check_disk
from mashup._merge.lora import merged_in_memory
from mashup._merge.manifest import card
from mashup._merge.methods import METHODS
from mashup._merge.methods.greedy_soup import chosen_weights
from mashup._merge.parents import (
    Parent,
    counting,
    make_parents,
    open_parents,
    rule_problems,
    weights_for,
)
from mashup._merge.plan import Prepared, prepare
from mashup._merge.write import write_folder
from mashup._select import NOTHING_HELPS, Selection
from mashup.checkpoint import Checkpoint, Opened, check_base
from mashup.checkpoint.card import CARD
from mashup.checkpoint.history import MANIFEST
from mashup.delta import Delta
from mashup.errors import InputError, Problem, UsageError, gather
from mashup.faults import resolved
from mashup.model import AnyBase, Base, load_base, name_of
from mashup.outputs import new_folder, refuse_existing, to_json, write_text
from mashup.progress import SILENT, Progress
from mashup.settings import MergeSettings
from mashup.state import read_state

#: A merge in memory to its loss on the task's sample, in nats a token.
Measure = Callable[[Delta], float]
Parents = Selection | Sequence[Checkpoint | Opened | str | Path]


class _Manifest(BaseModel, extra="allow"):
    """``mashup.json`` of an init."""

    version: Literal[1] = 1


@dataclass(frozen=True)
class Init:
    """A merged start, on disk.

    Attributes:
        path: a PEFT or model folder with tokenizer, model card and ``mashup.json``.
        manifest: what ``mashup.json`` holds: parents, weights, method, rank, kept energy, ...
    """

    path: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Init:
        """An init that was written before.

        Raises:
            InputError: no ``mashup.json`` there.
        """
        manifest = Path(path) / MANIFEST
        fix = f"remove {path} and give the same command again"
        return cls(Path(path), read_state(_Manifest, manifest, fix).model_dump())

    def noting(self, **values: Any) -> Init:
        """The same init with more values in its manifest, on disk as well."""
        return Init(self.path, self.manifest | values)._written()

    def _written(self) -> Init:
        """The same, with manifest and card on disk."""
        write_text(self.path / MANIFEST, to_json(self.manifest))
        write_text(self.path / CARD, card(self.manifest))
        return self


def merge(
    parents: Parents,
    settings: MergeSettings | None = None,
    *,
    output: str | Path,
    base: AnyBase | None = None,
    losses: Sequence[float] | None = None,
    measure: Measure | None = None,
    progress: Progress = SILENT,
    **shorthands: Any,
) -> Init:
    """Merge checkpoints of one base and write the result as a folder.

    ``merge(parents, output="init/", method="ties", density=0.2)`` is the same as
    ``merge(parents, MergeSettings(method="ties", density=0.2), output="init/")``.

    Args:
        parents: a selection, or checkpoints by value or path; LoRAs and full checkpoints.
        settings: method, weights, rank, output and the like; by default those of
            :class:`mashup.MergeSettings`.
        output: the folder to make; it must not exist.
        base: the base model: loaded, by name, or as a transformers model in memory. Needed for
            full checkpoints, except for a plain mean of them.
        losses: of the parents on the sample, nats a token, for ``weights="loss"``; a selection
            brings its own.
        measure: loss of a merge in memory, for ``greedy_soup``.
        progress: where to show a bar.
        shorthands: fields of :class:`mashup.MergeSettings` by name; None is the default. What
            ``settings`` sets cannot be given here as well.

    Returns:
        The folder that was written, and its manifest.

    Raises:
        UsageError: unknown, impossible or contradicting settings, all at once.
        InputError: no parents, parents that do not go together, or an existing output.
        OutputError: no room on the disk.
    """
    start = time.perf_counter()
    settings = resolved(MergeSettings, settings, shorthands, "merge")
    output = Path(output)
    refuse_existing(output)
    if base is not None and not isinstance(base, str | Path):
        base = load_base(base)
    prepared = prepare_merge(parents, settings, base, losses, measure)
    check_disk(output, prepared.plan.bytes_written)
    with new_folder(output) as folder:
        manifest = write_folder(folder, prepared, base, settings, progress)
        manifest["merge_seconds"] = time.perf_counter() - start
        init = Init(folder, manifest)._written()
    return replace(init, path=output)


def prepare_merge(
    parents: Parents,
    settings: MergeSettings,
    base: Base | str | Path | None,
    losses: Sequence[float] | None = None,
    measure: Measure | None = None,
) -> Prepared:
    """All of :func:`merge` before the first byte is written.

    Raises:
        InputError, UsageError: as :func:`merge`.
    """
    if isinstance(parents, Selection):
        if parents.is_empty:
            raise InputError(Problem("nothing to merge", "selection", NOTHING_HELPS))
        losses = [score.loss for score in parents.chosen]
        parents = _scored(parents)
    method = METHODS[settings.method]
    weights, _, opened = gather(
        lambda: weights_for(method, settings.weights, len(parents), losses),
        lambda: _check_settings(settings, len(parents), measured=measure is not None),
        lambda: open_parents(parents),
    )
    if isinstance(base, str | Path):
        check_base(base, (one.checkpoint.base for one in opened))
    named = name_of(base) if base is not None else None
    read = make_parents(opened, weights, base=named, accept_base=settings.accept_base)
    if measure is not None and settings.method == "greedy_soup":
        read = _greedy(read, settings, base, measure)
    counted = counting(read, method, settings)
    prepared = prepare(counted, _recipe(settings, counted), base, settings)
    return replace(prepared, parents=tuple(read))


def _scored(selection: Selection) -> list[Checkpoint]:
    """The chosen checkpoints; full ones, which seldom name their base, with that of the scores."""
    chosen = [score.checkpoint for score in selection.chosen if score.checkpoint]
    base = selection.scores.base_name
    return [c if c.base or c.kind == "lora" else replace(c, base=base) for c in chosen]


def _check_settings(settings: MergeSettings, count: int, *, measured: bool) -> None:
    """Refuse settings that do not go with the method or with what the call has.

    Raises:
        UsageError: all problems at once.
    """
    problems = METHODS[settings.method].problems(settings, count)
    problems += rule_problems(METHODS[settings.method], settings, count)
    if settings.scale == "search":
        fix = "give a number, or use mashup init or compare, which have a sample"
        what = "nothing to search a scale on"
        problems.append(Problem(what, "`scale`", "search", "a number", fix))
    if settings.method == "greedy_soup" and not measured:
        fix = "use mashup init, or mashup merge with `base` and `dataset`"
        problems.append(Problem("nothing to measure with", "`method` greedy_soup", fix=fix))
    if problems:
        raise UsageError(*problems)


def _recipe(settings: MergeSettings, parents: Sequence[Parent]) -> Recipe:
    """What is done to every tensor; a number distinguishes equal parents."""
    weights, digests = tuple(p.weight for p in parents), [p.digest for p in parents]
    keys = tuple(f"{d}{digests[:n].count(d) or ''}" for n, d in enumerate(digests))
    places = tuple(p.place for p in parents)
    return Recipe(METHODS[settings.method], settings, weights, keys, places)


def _greedy(
    parents: Sequence[Parent],
    settings: MergeSettings,
    base: Base | str | Path | None,
    measure: Measure,
) -> tuple[Parent, ...]:
    """The parents with the weights of the greedy soup."""

    def loss(weights: Sequence[float]) -> float:
        counted = [replace(p, weight=w) for p, w in zip(parents, weights, strict=True) if w]
        recipe = _recipe(settings, counted)
        plan = prepare(counted, recipe, base, settings).plan
        return measure(merged_in_memory(counted, plan, recipe))

    weights, _ = chosen_weights(len(parents), loss)
    return tuple(replace(p, weight=w) for p, w in zip(parents, weights, strict=True))


def cost_of(parents: Parents, settings: MergeSettings, base: str | Path | None) -> dict[str, Any]:
    """What a merge would read, write and hold in memory, in bytes, without doing it.

    A greedy soup counts as the mean of all parents, and weights that are measured as uniform.

    Raises:
        InputError, UsageError: as :func:`mashup.merge`.
    """
    changed: dict[str, Any] = {}
    if settings.method == "greedy_soup":
        changed["method"] = "linear"
    if settings.weights == "loss":
        changed["weights"] = "uniform"
    prepared = prepare_merge(parents, settings.model_copy(update=changed), base)
    plan = prepared.plan
    if isinstance(plan, FullPlan):
        return {
            "output_kind": "full",
            "tensors": len(plan.tensors) + len(plan.copied),
            "files": len(plan.shards),
            "bytes_read": plan.bytes_read(),
            "bytes_written": plan.bytes_written,
            "peak_memory": plan.peak_memory(prepared.recipe),
        }
    read = sum(parent.checkpoint.bytes for parent in prepared.parents)
    return {
        "output_kind": "lora",
        "tensors": 2 * len(plan.modules) + len(plan.saved),
        "files": 1,
        "bytes_read": read,
        "bytes_written": plan.bytes_written,
        "peak_memory": LIBRARIES + 3 * read,
    }
