"""Plan a merge into a LoRA: which modules, which whole tensors beside them, what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch

from mashup._merge.algebra import FactorStyle
from mashup._merge.changes import Change, Lora, spans, upcast
from mashup._merge.combine import Tensors
from mashup._merge.methods import Method
from mashup._merge.mixes import mix_problems
from mashup._merge.modules import LoraPlan, Module, Saved, key_of
from mashup._merge.parents import Parent
from mashup._merge.reference import Reference
from mashup._merge.values import OnDisk, Value
from mashup.checkpoint import LoraModule
from mashup.checkpoint.conv1d import is_conv1d
from mashup.checkpoint.identity import read_config
from mashup.checkpoint.vocabulary import BY_TOKEN, FILE, POSITIONS
from mashup.errors import InputError, Problem, UsageError, raise_all
from mashup.files import digest_file
from mashup.settings import Rank

Changes = Sequence[Mapping[str, Change]]


def plan_lora(
    parents: Sequence[Parent],
    reference: Reference | None,
    rank: Rank,
    style: FactorStyle,
    method: Method,
) -> LoraPlan:
    """What the merged adapter holds.

    Args:
        parents: LoRAs, or whole models matched with ``reference``.
        reference: None when no base is needed.
        rank: as asked for; a number or ``energy=X`` if a parent is a whole model.
        style: of the factors.
        method: of ``factor_average`` modules keep the rank and scale that the parents share.

    Raises:
        InputError: kinds of change that a merged LoRA cannot hold.
        UsageError: a rank that whole models do not have.
    """
    if any(parent.is_full for parent in parents) and rank.text in ("sum", "max"):
        expected, fix = "a number, or energy=X", "give `rank` 64, say; whole models have no rank"
        raise UsageError(Problem("bad rank", "`rank`", rank.text, expected, fix))
    raise_all([*_refusals(parents), *mix_problems(parents)])
    changes: Changes = reference.changes if reference else [p.changes for p in parents]
    saved, keys = _saved(parents, changes, reference)
    raise_all(_vocabulary_problems(parents, saved, reference))
    if not method.is_sum:
        raise_all(_split_problems(method, changes, keys, reference))
    config = read_config(reference.folder) if reference else {}
    averaged = method.name == "factor_average"
    scale = max((m.scale for m in _modules(parents)), default=1.0)
    modules, left_out = [], []
    for name in sorted({name for parent in changes for name in parent}):
        one = _tensors(name, _in_one_layout(_lora_part(name, changes, keys)), reference)
        if _is_module(one):
            modules.append(_module(one, config, None if averaged else scale))
        elif name not in keys and any(one.changes):
            left_out.append(one)
    turned = any(m.transposed and m.keys == _linear_keys(m.name) for m in modules)
    return LoraPlan(tuple(modules), saved, tuple(left_out), rank, style, turned)


def _modules(parents: Sequence[Parent]) -> list[LoraModule]:
    return [m for parent in parents if parent.adapter for m in parent.adapter.modules.values()]


def _lora_part(name: str, changes: Changes, saved: Mapping[str, str]) -> list[Change | None]:
    """Per parent, the change without the new values that stand whole beside the LoRA."""
    parts = [own.get(name) for own in changes]
    if name not in saved:
        return parts
    return [Change(lora=change.lora) if change and change.lora else None for change in parts]


def _split_problems(
    method: Method, changes: Changes, saved: Mapping[str, str], reference: Reference | None
) -> list[Problem]:
    """Tensors that parents change by a LoRA and by new values, and a method that needs the sum.

    The adapter holds the two apart, so only a weighted sum can be taken of each by itself. PEFT
    saves the base's values with a LoRA on embeddings: those change nothing and are no problem.
    """
    problems = []
    fix = "use `method` linear, or merge into a whole model: `output_kind` full and `base`"
    for name in sorted(saved):
        parts = [own[name] for own in changes if name in own]
        base = reference.base(name) if reference else None
        if base is None or not any(part.lora for part in parts):
            continue
        if any(part.value and not _equal(part.value, base) for part in parts):
            found, expected = f"{name}: a LoRA, and new values", "one of the two for `method` "
            where = f"`method` {method.name}"
            what = "cannot be merged into a LoRA"
            problems.append(Problem(what, where, found, expected + method.name, fix))
    return problems


def _equal(value: Value, base: Value) -> bool:
    """Whether two tensors hold the same numbers."""
    pieces = spans(tuple(base.shape))
    return all(torch.equal(*(upcast(v.rows(*piece)) for v in (value, base))) for piece in pieces)


def _saved(
    parents: Sequence[Parent], changes: Changes, reference: Reference | None
) -> tuple[tuple[Saved, ...], dict[str, str]]:
    """Whole tensors of the adapter, and name to key of those that stand for a base tensor."""
    adapters = [parent.adapter for parent in parents if parent.adapter]
    keys = {n: stored.name for adapter in adapters for n, stored in adapter.saved.items()}
    made = []
    for name, key in sorted(keys.items()):
        values = [own.get(name) for own in changes]
        parts = [Change(c.value) if c and c.value else None for c in values]
        made.append(Saved(key, _tensors(name, parts, reference)))
    under = {n: stored.name for adapter in adapters for n, stored in adapter.originals.items()}
    for name, key in sorted(under.items()):
        found = [p.adapter.originals.get(name) if p.adapter else None for p in parents]
        parts = [Change(OnDisk(stored)) if stored else None for stored in found]
        made.append(Saved(key, _tensors(name, parts, reference)))
    return tuple(made), keys


def _tensors(name: str, parts: Sequence[Change | None], reference: Reference | None) -> Tensors:
    """One tensor in all parents.

    Raises:
        InputError: values of other shapes.
    """
    shapes = [tuple((c.value or c.lora).shape) for c in parts if c and (c.value or c.lora)]  # type: ignore[union-attr]
    if len(set(shapes)) > 1:
        found, fix = (
            f"{name}: {' and '.join(map(str, sorted(set(shapes))))}",
            ("give `base`: tokens that a parent lacks get the base's rows"),
        )
        raise InputError(Problem("vocabularies differ", "parents", found, "one shape", fix))
    base = reference.base(name) if reference else None
    return Tensors(name, shapes[0] if shapes else (0,), tuple(parts), base)


def _is_module(one: Tensors) -> bool:
    """Whether a LoRA of linear layers can hold its change."""
    if any(change and change.lora for change in one.changes):
        return True
    is_matrix = len(one.shape) == 2 and one.name.endswith(".weight")
    changed = any(change is not None for change in one.changes)
    looked_up = one.name.endswith((*BY_TOKEN, *POSITIONS))
    return changed and one.base is not None and is_matrix and not looked_up


def _module(one: Tensors, config: Mapping[str, Any], scale: float | None) -> Module:
    """A module of the plan, with ``scale``, or with the rank and scale that its parents share.

    Args:
        one: its tensor in all parents.
        config: of the base, empty where no base is read.
        scale: of the merged factors; None keeps the parents'.
    """
    loras = [change.lora.module for change in one.changes if change and change.lora]
    ranks = tuple(lora.rank for lora in loras)
    if not loras:
        name = one.name.removesuffix(".weight")
        turned = is_conv1d(name, config)
        d_in, d_out = one.shape if turned else one.shape[::-1]
        return Module(name, one, d_in, d_out, ranks, scale or 1.0, _linear_keys(name), turned)
    first = loras[0]
    keys = {
        "linear": _linear_keys(first.name),
        "embedding": tuple(key_of(f"{first.name}.lora_embedding_{side}") for side in "AB"),
        "parameter": (first.A.name, first.B.name),  # how deep PEFT wraps it is in the name
    }[first.kind]
    return Module(
        first.name,
        one,
        first.d_in,
        first.d_out,
        ranks,
        first.scale if scale is None else scale,
        keys,  # type: ignore[arg-type]
        first.layout.endswith("transposed"),
        first.rank if scale is None else None,
        first.experts,
    )


def _in_one_layout(parts: Sequence[Change | None]) -> list[Change | None]:
    """LoRAs of a module in one layout: where no base is read, some may call a Conv1D linear."""
    layouts = {change.lora.module.layout for change in parts if change and change.lora}
    layout = next((one for one in layouts if one.endswith("transposed")), None)
    if layout is None:
        return list(parts)
    return [
        replace(c, lora=Lora(replace(c.lora.module, layout=layout))) if c and c.lora else c
        for c in parts
    ]


def _linear_keys(name: str) -> tuple[str, str]:
    return key_of(f"{name}.lora_A.weight"), key_of(f"{name}.lora_B.weight")


def _refusals(parents: Sequence[Parent]) -> list[Problem]:
    """Changes that make sense in one adapter and have no counterpart in a merged one."""
    problems = []
    fix = "merge into a whole model: `output_kind` full and `base`"
    for parent in parents:
        adapter = parent.adapter
        kinds = {
            "new rows of tokens (trainable_token_indices)": bool(adapter and adapter.rows),
            "biases of the LoRA (lora_bias)": bool(adapter and adapter.biases),
        }
        for kind, there in kinds.items():
            if there:
                what, where = "cannot be merged into a LoRA", str(parent.checkpoint.path)
                problems.append(Problem(what, where, kind, "factors and whole modules", fix))
    if len({_parameters(parent) for parent in parents if parent.adapter}) > 1:
        found, expected = "parents with other target_parameters", "the same of all"
        what = "cannot be merged into a LoRA"
        problems.append(Problem(what, "parents", found, expected, fix))
    return problems


def _parameters(parent: Parent) -> tuple[str, ...]:
    assert parent.adapter is not None
    modules = parent.adapter.modules.values()
    return tuple(sorted({m.name.rpartition(".")[2] for m in modules if m.kind == "parameter"}))


def _vocabulary_problems(
    parents: Sequence[Parent], saved: Sequence[Saved], reference: Reference | None
) -> list[Problem]:
    """Saved embeddings of parents whose tokenizers differ, and no base to align them with."""
    if reference or not any(one.tensors.name.endswith(BY_TOKEN) for one in saved):
        return []
    files = [parent.checkpoint.path / FILE for parent in parents]
    digests = {digest_file(path) for path in files if path.is_file()}
    if len(digests) < 2:
        return []
    fix = "give `base`: tokens that a parent lacks get the base's rows"
    found = f"{len(digests)} tokenizers"
    return [Problem("vocabularies differ", "parents", found, "one tokenizer", fix)]


def all_tensors(plan: LoraPlan) -> list[Tensors]:
    """Everything that a plan merges."""
    return list(
        chain(
            (saved.tensors for saved in plan.saved),
            (module.tensors for module in plan.modules),
            plan.left_out,
        )
    )
