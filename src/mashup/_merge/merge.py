"""Merge checkpoints into an init: a standard PEFT or model folder that any trainer takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mashup._merge.algebra import FactorStyle
from mashup._merge.combine import Recipe
from mashup._merge.full import check_disk
from mashup._merge.manifest import MANIFEST, card
from mashup._merge.memory import merged_in_memory
from mashup._merge.methods import METHODS, Settings
from mashup._merge.methods.greedy_soup import chosen_weights
from mashup._merge.parents import Parent, read_parents
from mashup._merge.prepare import Options, OutputKind, Prepared, prepare
from mashup._merge.shards import SHARD_BYTES
from mashup._merge.weighing import Weights, weights_for
from mashup._merge.write import write_parts
from mashup._select import NOTHING_HELPS, Selection
from mashup.checkpoint import Checkpoint, check_base, read_checkpoint
from mashup.checkpoint.card import CARD
from mashup.delta import Delta
from mashup.errors import InputError, Problem, UsageError
from mashup.files import new_folder, read_state, refuse_existing, to_json, write_text
from mashup.model import AnyBase, Base, load_base, name_of
from mashup.progress import SILENT, Progress

#: A merge in memory to its loss on the task's sample.
Measure = Callable[[Delta], float]


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
        return cls(Path(path), read_state(dict[str, Any], manifest, fix))

    def noting(self, **values: Any) -> Init:
        """The same init with more values in its manifest, on disk as well."""
        return Init(self.path, self.manifest | values)._written()

    def _written(self) -> Init:
        """The same with manifest and card on disk."""
        write_text(self.path / MANIFEST, to_json(self.manifest))
        write_text(self.path / CARD, card(self.manifest))
        return self


def merge(
    parents: Selection | Sequence[Checkpoint | str | Path],
    *,
    output: str | Path,
    method: str = "linear",
    weights: Weights = None,
    scale: float | str = 1.0,
    density: float = 0.5,
    gamma: float = 0.01,
    epsilon: float = 0.1,
    seed: int = 42,
    base: AnyBase | None = None,
    output_kind: OutputKind = "auto",
    rank: str | int = "sum",
    factors: FactorStyle = "rotated",
    dtype: str | None = None,
    accept_base: bool = False,
    allow_partial: bool = False,
    untie: bool = False,
    tokenizer: str | Path | None = None,
    shard_bytes: int = SHARD_BYTES,
    losses: Sequence[float] | None = None,
    measure: Measure | None = None,
    progress: Progress = SILENT,
) -> Init:
    """Merge checkpoints of one base and write the result as a folder.

    Args:
        parents: a selection, or checkpoints by value or path; LoRAs and whole models.
        output: the folder to make; it must not exist.
        method: a name of :data:`mashup._merge.methods.METHODS`.
        weights: one a parent, ``uniform`` (the default), or ``loss`` (softmax of the losses);
            numbers for ``newton`` are made by :func:`mashup._init.newton`.
        scale: λ, a factor on the merged delta.
        density: share of a delta's numbers that trimming methods keep.
        gamma: share of the largest numbers that breadcrumbs drops.
        epsilon: half the width of della's probabilities.
        seed: of random methods and of the rotation of factors.
        base: the base model, loaded, by name, or as a transformers model in memory; needed for
            whole models, except for a plain mean.
        output_kind: ``lora``, ``full``, or ``auto``: full if any parent is.
        rank: of a LoRA: ``sum`` (exact), ``max``, a number, or ``energy=X``.
        factors: how a merged LoRA is factored; same delta, different training (see the docs).
        dtype: of the written weights; None is a model's own, and float32 for a LoRA.
        accept_base: merge checkpoints whose base names differ or are blank.
        allow_partial: merge what fits of parents that do not fit as a whole.
        untie: write a separate output head where a parent has one.
        tokenizer: folder of the base or of a parent whose vocabulary the result gets.
        shard_bytes: the most bytes of a file of a model.
        losses: of the parents on the sample, for ``weights="loss"``; a selection knows its own.
        measure: loss of a merge in memory, for ``greedy_soup``.
        progress: where to show a bar.

    Raises:
        InputError: no parents, parents that do not go together, or an existing output.
        UsageError: a method, weights, a rank or a number that cannot be.
        OutputError: no room on the disk.
    """
    start = time.perf_counter()
    output = Path(output)
    refuse_existing(output)
    if base is not None and not isinstance(base, str | Path):
        base = load_base(base)
    settings = Settings(_number(scale), density, gamma, epsilon, seed)
    options = options_of(
        output_kind=output_kind,
        rank=rank,
        factors=factors,
        dtype=dtype,
        accept_base=accept_base,
        allow_partial=allow_partial,
        untie=untie,
        tokenizer=tokenizer,
        shard_bytes=shard_bytes,
    )
    prepared = prepare_merge(parents, method, weights, settings, options, base, losses, measure)
    check_disk(output, prepared.plan.bytes_written)
    with new_folder(output) as folder:
        manifest = write_parts(folder, prepared, base, options, progress)
        manifest["merge_seconds"] = time.perf_counter() - start
        init = Init(folder, manifest)._written()
    return replace(init, path=output)


def options_of(*, tokenizer: str | Path | None, **given: Any) -> Options:
    """Options from the arguments of :func:`merge`."""
    return Options(tokenizer=Path(tokenizer) if tokenizer else None, **given)


def prepare_merge(
    parents: Selection | Sequence[Checkpoint | str | Path],
    method: str,
    weights: Weights,
    settings: Settings,
    options: Options,
    base: Base | str | Path | None,
    losses: Sequence[float] | None = None,
    measure: Measure | None = None,
) -> Prepared:
    """All of :func:`merge` before the first byte is written.

    Raises:
        InputError, UsageError: as :func:`merge`.
    """
    chosen = METHODS.get(method)
    if chosen is None:
        expected = ", ".join(METHODS)
        raise UsageError(Problem("unknown method", "`method`", method, expected))
    if isinstance(parents, Selection):
        if parents.is_empty:
            raise InputError(Problem("nothing to merge", "selection", NOTHING_HELPS))
        losses = [score.loss for score in parents.chosen]
        parents = _scored(parents)
    given = weights_for(chosen, weights, len(parents), losses)
    chosen.check(settings, len(parents))
    named = name_of(base) if base is not None else None
    if isinstance(base, str | Path):
        check_base(base, (_base_named(parent) for parent in parents))
    read = read_parents(parents, given, base=named, accept_base=options.accept_base)
    recipe = _recipe(method, settings, read)
    if method == "greedy_soup":
        read, recipe = _greedy(read, recipe, base, options, measure)
    counting = [p for p in read if p.weight != 0 or chosen.needs_gram]
    prepared = prepare(counting, _recipe(method, settings, counting), base, options)
    return replace(prepared, parents=tuple(read))


def _scored(selection: Selection) -> list[Checkpoint]:
    """Whole models name their base seldom; scoring has told by their weights that it is this."""
    chosen = [score.checkpoint for score in selection.chosen if score.checkpoint]
    base = selection.scores.base_name
    return [c if c.base or c.kind == "lora" else replace(c, base=base) for c in chosen]


def _base_named(parent: Checkpoint | str | Path) -> str:
    return (parent if isinstance(parent, Checkpoint) else read_checkpoint(Path(parent))).base


def _recipe(method: str, settings: Settings, parents: Sequence[Parent]) -> Recipe:
    weights, digests = tuple(p.weight for p in parents), [p.digest for p in parents]
    keys = tuple(f"{d}{digests[:n].count(d) or ''}" for n, d in enumerate(digests))
    return Recipe(METHODS[method], settings, weights, keys)


def _greedy(
    parents: Sequence[Parent],
    recipe: Recipe,
    base: Base | str | Path | None,
    options: Options,
    measure: Measure | None,
) -> tuple[tuple[Parent, ...], Recipe]:
    if measure is None:
        fix = "use 'mashup init', or give --model and --dataset to measure on"
        raise UsageError(Problem("nothing to measure with", "`method` greedy_soup", fix=fix))

    def loss(weights: Sequence[float]) -> float:
        counting = [replace(p, weight=w) for p, w in zip(parents, weights, strict=True) if w]
        tried = _recipe("greedy_soup", recipe.settings, counting)
        return measure(merged_in_memory(prepare(counting, tried, base, options)))

    weights, _ = chosen_weights(len(parents), loss)
    kept = tuple(replace(p, weight=w) for p, w in zip(parents, weights, strict=True))
    return kept, _recipe("greedy_soup", recipe.settings, kept)


def _number(scale: float | str) -> float:
    """The factor on the merged delta; a word asks for a sample, which a merge has none of."""
    if isinstance(scale, str):
        fix = "give a number, or use mashup init or compare, which have a sample"
        raise UsageError(Problem("nothing to search a scale on", "`scale`", scale, "a number", fix))
    return scale
