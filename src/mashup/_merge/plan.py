"""From parents and settings to a plan: everything is checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from mashup._merge.combine import Recipe, Tensors, layer_counts, needs_base
from mashup._merge.configs import config_problems
from mashup._merge.full import FullPlan, plan_full
from mashup._merge.heads import Heads, split_heads
from mashup._merge.methods import Method
from mashup._merge.parents import Parent
from mashup._merge.plan_lora import LoraPlan, plan_lora
from mashup._merge.reference import Reference, copied_problems, match
from mashup._merge.vocabulary import number_problems
from mashup.checkpoint import BaseShapes, Stored, fit, locate
from mashup.checkpoint.fit import settings_problem
from mashup.checkpoint.full import with_head
from mashup.checkpoint.heads import class_of, is_classifier
from mashup.checkpoint.identity import read_config
from mashup.errors import InputError, Problem, UsageError, raise_all
from mashup.model import Base, name_of, shapes_of, skeleton_shapes
from mashup.model.base import skeleton
from mashup.model.names import named_as_in
from mashup.settings import MergeSettings, Rank


@dataclass(frozen=True)
class Prepared:
    """A merge that can be written.

    Attributes:
        parents: all of them, including those of weight zero.
        recipe: method, settings and weights of the parents that count.
        plan: what to write.
        reference: the model that a full result is shaped like; None for LoRAs alone.
        heads: of classifiers; None where no parent is one.
    """

    parents: tuple[Parent, ...]
    recipe: Recipe
    plan: FullPlan | LoraPlan
    reference: Reference | None
    heads: Heads | None = None

    @property
    def in_order(self) -> list[Parent]:
        """The parents as the user gave them. What cannot be averaged is taken from the first."""
        return sorted(self.parents, key=lambda parent: parent.place)


def torch_dtype(settings: MergeSettings) -> torch.dtype | None:
    """The type to write, None for ``auto``."""
    return None if settings.dtype == "auto" else getattr(torch, settings.dtype)


def prepare(
    parents: Sequence[Parent],
    recipe: Recipe,
    base: Base | str | Path | None,
    settings: MergeSettings,
) -> Prepared:
    """Check that the parents go together and fit the base, and plan the merge.

    Raises:
        InputError: parents that do not fit the base or each other.
        UsageError: a rank or an output kind that these parents cannot have.
    """
    kind = _kind(settings.output_kind, parents, recipe.method)
    folder = locate(name_of(base)) if base is not None and kind == "full" else None
    parents, heads = split_heads(parents, settings.head, folder)
    if heads and kind == "lora":
        raise_all(_whole_classifier(parent) for parent in parents)
    raise_all(number_problems(parents))
    reference = None
    saves = any(parent.adapter and parent.adapter.saved for parent in parents)
    if kind == "full" or any(parent.is_full for parent in parents) or (saves and base):
        folder = locate(name_of(base)) if base is not None else None
        measured = recipe.method.name == "greedy_soup"
        reference = _reference(
            parents, folder, settings, into_lora=kind == "lora", measured=measured
        )
    elif base is not None:
        reference = _compared(parents, base, settings)
    raise_all(copied_problems(reference) if reference else ())
    named = reference.tensors if reference else {n for parent in parents for n in parent.changes}
    recipe = replace(recipe, layers=layer_counts(named))
    if heads:
        recipe = replace(recipe, heads=heads.names, head_weights=heads.weights)
    plan: FullPlan | LoraPlan
    if kind == "full":
        assert reference is not None
        shard_bytes = round(settings.shard_size * 1e9)
        raise_all(_no_place_for_a_head(heads, reference))
        plan = plan_full(reference, torch_dtype(settings), shard_bytes, heads)
    else:
        rank = Rank.parse(settings.rank)
        plan = plan_lora(parents, reference, rank, settings.factors, recipe.method, heads)
    raise_all(_base_is_missing(recipe, plan.tensors))
    return Prepared(tuple(parents), recipe, plan, reference, heads)


def _whole_classifier(parent: Parent) -> Problem | None:
    """The problem of a whole classifier for a LoRA: which of its layers are linear is not known."""
    if not parent.is_full:
        return None
    found, fix = "a full checkpoint of a classifier", "merge into a full one: `output_kind` full"
    where = str(parent.path)
    return Problem("cannot be merged into a LoRA", where, found, "LoRAs on classifiers", fix)


def _no_place_for_a_head(heads: Heads | None, reference: Reference) -> list[Problem]:
    """The problem of LoRAs with a head that are merged into a base that is no classifier."""
    if not heads or not heads.modules or heads.config:
        return []
    if class_of(reference.model.config).endswith("Classification"):
        return []
    found = f"{', '.join(sorted(heads.modules))}, and {class_of(reference.model.config)}"
    fix = "give `head` drop, `output_kind` lora, or a base that was saved with such a head"
    where = str(reference.folder)
    return [Problem("no place for the head", where, found, "a classifier as the base", fix)]


def _kind(wanted: str, parents: Sequence[Parent], method: Method) -> Literal["lora", "full"]:
    full = any(parent.is_full for parent in parents)
    if method.name == "factor_average" and (full or wanted == "full"):
        found, fix = "a full checkpoint", "use `method` linear"
        raise UsageError(Problem("LoRA only", "`method` factor_average", found, "LoRAs", fix))
    return "full" if wanted == "full" or (wanted == "auto" and full) else "lora"


def _reference(
    parents: Sequence[Parent],
    folder: Path | None,
    settings: MergeSettings,
    *,
    into_lora: bool,
    measured: bool = False,
) -> Reference:
    """The model that the result is shaped like: the base, or the first parent without one.

    Args:
        parents: at least one.
        folder: of the base.
        settings: of the merge.
        into_lora: the result is a LoRA.
        measured: the result is put on the loaded base before it is written.
    """
    if folder is None and (into_lora or not all(parent.is_full for parent in parents)):
        fix = "give `base`: a LoRA is a change of its base"
        raise InputError(Problem("base model is needed", "`base`", "none", "the base model", fix))
    full = [parent.opened for parent in parents if parent.is_full]
    model = BaseShapes.read(folder) if folder else BaseShapes.of(parents[0].opened)
    if any(is_classifier(parent.opened) for parent in parents):
        model = model.below_heads([parent.opened for parent in parents])
    if into_lora or measured or not all(parent.is_full for parent in parents):
        model, parents = _named_as_loaded(model, parents)
    if not settings.accept_base:
        raise_all(settings_problem(o.path, o.settings, model.config, model.name) for o in full)
    found = match(parents, model, settings, is_base=folder is not None, into_lora=into_lora)
    raise_all(config_problems(full, model if folder else None, same=not settings.accept_base))
    return found


def _named_as_loaded(
    model: BaseShapes, parents: Sequence[Parent]
) -> tuple[BaseShapes, Sequence[Parent]]:
    """The base and the full parents by the names of the loaded model, which LoRAs have.

    Each tensor still knows what the files call it, and a full checkpoint is written with their
    names.
    """
    loaded = skeleton(model.folder) if model.folder and model.is_renamed else None
    if loaded is None:
        return model, parents

    def named(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
        found, odd = named_as_in(loaded, tensors)
        return found | {name: tensors[name] for name in odd}

    stored, about = named(model.stored), shapes_of(loaded)
    shapes = {name: one.shape for name, one in stored.items()}
    model = replace(
        model, shapes=with_head(shapes) if model.tied else shapes, stored=stored,
        widths=about.widths, transposed=about.transposed, embeddings=about.embeddings,
    )  # fmt: skip
    opened = [replace(p.opened, tensors=named(p.opened.tensors)) for p in parents]
    return model, [replace(p, opened=one) for p, one in zip(parents, opened, strict=True)]


def _compared(
    parents: Sequence[Parent], base: Base | str | Path, settings: MergeSettings
) -> Reference | None:
    """The headers of a base whose weights a merge of LoRAs does not read, if the LoRAs fit them.

    PEFT names modules as the model in memory does. The files may have other names (experts that
    transformers joins, vision models), or be absent (a Hub model of which only ``config.json`` is
    fetched, a quantised one). The LoRAs are then compared with the model in memory, or one
    without weights, and the result is None.

    Raises:
        InputError: a base that cannot be found, or LoRAs that do not fit it.
    """
    loaded = base.model if isinstance(base, Base) else None
    folder = Path(base.name) if isinstance(base, Base) else locate(base, ["config.json"])
    try:
        return _reference(parents, folder, settings, into_lora=True)
    except InputError:
        name = name_of(base)
        shapes = skeleton_shapes(folder, name) if loaded is None else shapes_of(loaded, name)
        found = [] if shapes is None else [fit(p.opened, shapes, accept_base=True) for p in parents]
        misfits = [problem for one in found for problem in one.problems]
        quantised = read_config(folder).get("quantization_config")
        if shapes is None or (misfits and not quantised):
            raise
    raise_all(misfits)
    return None


def _base_is_missing(recipe: Recipe, tensors: Sequence[Tensors]) -> list[Problem]:
    """The problem of a method or weights that need a base that was not given."""
    for one in tensors:
        whole = any(change and change.value for change in one.changes)
        if whole and one.base is None and needs_base(recipe.of(one.name), one.changes):
            found = f"method {recipe.method.name}, weights {list(recipe.weights)}"
            expected = "the base model, which these are differences from"
            fix = "give `base`, or use `method` linear with weights that sum to 1"
            return [Problem("base model is needed", one.name, found, expected, fix)]
    return []
