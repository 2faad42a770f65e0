"""From parents and options to a plan: everything is checked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from mashup._merge.algebra import FactorStyle
from mashup._merge.combine import Recipe, Tensors, needs_base
from mashup._merge.copied import copied_problems
from mashup._merge.full import FullPlan, plan_full
from mashup._merge.methods import Method
from mashup._merge.modules import LoraPlan
from mashup._merge.parents import Parent
from mashup._merge.plan_lora import all_tensors, plan_lora
from mashup._merge.reference import Reference, match
from mashup._merge.settings import settings_problems
from mashup._merge.shards import SHARD_BYTES
from mashup._merge.vocabulary import number_problems
from mashup.checkpoint import locate, read_adapter_config
from mashup.checkpoint.architecture import architecture_problem
from mashup.checkpoint.identity import read_config
from mashup.errors import InputError, Problem, UsageError, raise_all
from mashup.model import Base, adapter_problems, name_of
from mashup.model.base import skeleton
from mashup.settings import Rank

OutputKind = Literal["auto", "lora", "full"]


@dataclass(frozen=True)
class Options:
    """What a merge may do, beside its method.

    Attributes:
        output_kind: ``lora``, ``full``, or ``auto``: full if any parent is.
        rank: of a LoRA: ``sum``, ``max``, a number, or ``energy=X``.
        factors: how a merged delta is factored.
        dtype: of what is written; None keeps a model's and is float32 for a LoRA.
        accept_base: merge though names or architectures differ.
        allow_partial: merge what fits of parents that do not fit as a whole.
        untie: write a separate output head where a parent has one.
        tokenizer: folder whose vocabulary the result gets.
        shard_bytes: the most bytes of a file of a model.
    """

    output_kind: OutputKind = "auto"
    rank: str | int = "sum"
    factors: FactorStyle = "rotated"
    dtype: str | None = None
    accept_base: bool = False
    allow_partial: bool = False
    untie: bool = False
    tokenizer: Path | None = None
    shard_bytes: int = SHARD_BYTES

    def asked(self) -> dict[str, Any]:
        """What was asked for of what the manifest does not tell otherwise."""
        flags = ("accept_base", "allow_partial", "untie", "dtype")
        given = {name: getattr(self, name) for name in flags if getattr(self, name)}
        return given | ({"tokenizer": str(self.tokenizer)} if self.tokenizer else {})

    def torch_dtype(self) -> torch.dtype | None:
        return getattr(torch, self.dtype) if self.dtype else None


@dataclass(frozen=True)
class Prepared:
    """A merge that can be written.

    Attributes:
        parents: all of them, also those of weight zero.
        recipe: method, settings and weights of the parents that count.
        plan: what to write.
        reference: what a full result is shaped like; None for LoRAs alone.
    """

    parents: tuple[Parent, ...]
    recipe: Recipe
    plan: FullPlan | LoraPlan
    reference: Reference | None

    @property
    def in_order(self) -> list[Parent]:
        """The parents as the user gave them: what cannot be averaged is the first one's."""
        return sorted(self.parents, key=lambda parent: parent.place)


def prepare(
    parents: Sequence[Parent], recipe: Recipe, base: Base | str | Path | None, options: Options
) -> Prepared:
    """Check that the parents go together and fit the base, and plan the merge.

    Raises:
        InputError: parents that do not fit the base or each other.
        UsageError: a rank, or a kind of output, that cannot be.
    """
    rank = Rank.parse(options.rank)
    kind = _kind(options.output_kind, parents, recipe.method)
    _check_factor_average(parents, recipe.method)
    raise_all(number_problems(parents))
    reference = None
    saves = any(parent.adapter and parent.adapter.saved for parent in parents)
    if kind == "full" or any(parent.is_full for parent in parents) or (saves and base):
        folder = locate(name_of(base)) if base is not None else None
        reference = _reference(parents, folder, options, into_lora=kind == "lora")
    elif base is not None:
        reference = _compared(parents, base, options)
    raise_all(copied_problems(reference) if reference else ())
    if kind == "full":
        assert reference is not None
        full = plan_full(reference, options.torch_dtype(), options.shard_bytes)
        raise_all(_base_is_missing(recipe, full.tensors))
        return Prepared(tuple(parents), recipe, full, reference)
    plan = plan_lora(parents, reference, rank, options.factors, recipe.method)
    raise_all(_base_is_missing(recipe, all_tensors(plan)))
    return Prepared(tuple(parents), recipe, plan, reference)


def _kind(wanted: OutputKind, parents: Sequence[Parent], method: Method) -> str:
    full = any(parent.is_full for parent in parents)
    if method.name == "factor_average" and (full or wanted == "full"):
        found, fix = "a whole model", "use `method` linear"
        raise UsageError(Problem("LoRA only", "`method` factor_average", found, "LoRAs", fix))
    if wanted != "auto":
        return wanted
    return "full" if full else "lora"


def _compared(
    parents: Sequence[Parent], base: Base | str | Path, options: Options
) -> Reference | None:
    """The headers of a base whose weights a merge of LoRAs does not read, if the LoRAs fit them.

    PEFT names modules as the model in memory does. Where the files have other names (experts
    that transformers joins, models that see) or are not there (a Hub model of which only
    ``config.json`` is fetched, a quantised one), the LoRAs are compared with that model, and
    the result is None.

    Raises:
        InputError: a base that cannot be found, or LoRAs that do not fit it.
    """
    loaded = base.model if isinstance(base, Base) else None
    folder = Path(base.name) if isinstance(base, Base) else locate(base, ["config.json"])
    try:
        return _reference(parents, folder, options, into_lora=True)
    except InputError:
        model = skeleton(folder) if loaded is None else loaded
        misfits = [] if model is None else [p for one in parents for p in _misfits(model, one)]
        quantised = read_config(folder).get("quantization_config")
        if model is None or (misfits and not quantised):
            raise
    raise_all(misfits)
    return None


def _misfits(model: Any, parent: Parent) -> list[Problem]:
    assert parent.adapter is not None
    config = read_adapter_config(parent.checkpoint.path)
    return adapter_problems(model, parent.adapter, config, str(parent.checkpoint.path))


def _reference(
    parents: Sequence[Parent], folder: Path | None, options: Options, *, into_lora: bool
) -> Reference:
    """What the result is shaped like."""
    if folder is None and (into_lora or not all(parent.is_full for parent in parents)):
        fix = "give --model: a LoRA is a change of its base"
        raise InputError(Problem("base model is needed", "--model", "none", "the base model", fix))
    whole = [parent for parent in parents if parent.is_full]
    if not options.accept_base:
        reference = folder or parents[0].checkpoint.path
        raise_all(architecture_problem(one.checkpoint.path, reference) for one in whole)
    found = match(
        parents,
        folder,
        allow_partial=options.allow_partial,
        untie=options.untie,
        tokenizer=options.tokenizer,
        into_lora=into_lora,
    )
    raise_all(settings_problems(whole, folder, same=not options.accept_base))
    return found


def _base_is_missing(recipe: Recipe, tensors: Sequence[Tensors]) -> list[Problem]:
    """The problem of a method or weights that need a base that was not given."""
    for one in tensors:
        whole = any(change and change.value for change in one.changes)
        if whole and one.base is None and needs_base(recipe, one.changes):
            found = f"method {recipe.method.name}, weights {list(recipe.weights)}"
            expected = "the base model, which these are differences from"
            fix = "give `base`, or use `method` linear with weights that sum to 1"
            return [Problem("base model is needed", one.name, found, expected, fix)]
    return []


def _check_factor_average(parents: Sequence[Parent], method: Method) -> None:
    if method.name != "factor_average":
        return
    shapes = [
        {n: (m.rank, m.d_in, m.d_out, m.scale) for n, m in parent.adapter.modules.items()}
        for parent in parents
        if parent.adapter
    ]
    if any(shape != shapes[0] for shape in shapes):
        found, fix = "parents that differ in modules, ranks or scales", "use `method` linear"
        expected = "the same of all three"
        raise InputError(Problem("cannot average factors", "parents", found, expected, fix))
