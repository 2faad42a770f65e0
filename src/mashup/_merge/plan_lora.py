"""Plan a merge into a LoRA: its modules, whole tensors with them, and what it cannot hold."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch

from mashup._merge.changes import Change, OnDisk, Value, spans, upcast
from mashup._merge.combine import Tensors
from mashup._merge.heads import Heads
from mashup._merge.methods import Method
from mashup._merge.parents import Parent
from mashup._merge.reference import Reference
from mashup.checkpoint import Adapter, AdapterConfig
from mashup.checkpoint.adapter import is_conv1d
from mashup.checkpoint.heads import is_head
from mashup.checkpoint.vocabulary import BY_TOKEN, FILE, POSITIONS
from mashup.errors import InputError, Problem, UsageError, raise_all
from mashup.files import digest_file
from mashup.settings import FactorStyle, Rank

#: Per parent, name of a base tensor to its change.
Changes = Sequence[Mapping[str, Change]]
_CANNOT = "cannot be merged into a LoRA"
_INTO_FULL = "merge into a full checkpoint: `output_kind` full and `base`"
#: What torch.compile puts into the names of the modules below a compiled one.
_WRAPPER = "._orig_mod."


@dataclass(frozen=True)
class Module:
    """One module of the merged LoRA.

    Attributes:
        name: as PEFT names it.
        tensors: its base tensor in all parents.
        d_in, d_out: widths.
        ranks: of the parents that have it.
        scale: ``s`` of the merged factors.
        keys: names of A and B in the file.
        transposed: whether the base stores the weight as ``(d_in, d_out)``, which the shape of a
            square one does not show.
        fixed: the rank that it must keep, if any.
        experts: how many of them one parameter stacks.
    """

    name: str
    tensors: Tensors
    d_in: int
    d_out: int
    ranks: tuple[int, ...]
    scale: float
    keys: tuple[str, str]
    transposed: bool
    fixed: int | None = None
    experts: int = 1

    def size(self, rank: int) -> int:
        """The rank that it gets when the adapter has ``rank``."""
        return self.fixed or min(rank, self.d_in, self.d_out)


@dataclass(frozen=True)
class Saved:
    """A whole tensor with the LoRA, and its name in the file."""

    key: str
    tensors: Tensors


@dataclass(frozen=True)
class LoraPlan:
    """All that is decided before any module is merged.

    Attributes:
        modules: to be merged in factors or as dense deltas.
        saved: whole tensors with them (``modules_to_save``, biases, ...).
        left_out: tensors that change but that a LoRA of linear layers cannot hold.
        rank: as asked for.
        style: of the factors.
        fan_in_fan_out: as PEFT's settings must say.
    """

    modules: tuple[Module, ...]
    saved: tuple[Saved, ...]
    left_out: tuple[Tensors, ...]
    rank: Rank
    style: FactorStyle
    fan_in_fan_out: bool = False

    @property
    def tensors(self) -> list[Tensors]:
        """Everything that is merged."""
        inside = [*(one.tensors for one in self.saved), *(one.tensors for one in self.modules)]
        return [*inside, *self.left_out]

    @property
    def bytes_written(self) -> int:
        """At most, in float32."""
        widths = (m.experts * (m.d_in + m.d_out) * m.size(sum(m.ranks) or 1) for m in self.modules)
        return 4 * (sum(widths) + sum(math.prod(one.tensors.shape) for one in self.saved))


def plan_lora(
    parents: Sequence[Parent],
    reference: Reference | None,
    rank: Rank,
    style: FactorStyle,
    method: Method,
    heads: Heads | None = None,
) -> LoraPlan:
    """What the merged adapter holds.

    Args:
        parents: LoRAs, or full checkpoints matched with ``reference``.
        reference: None when no base is needed.
        rank: as asked for; a number or ``energy=X`` if a parent is a full checkpoint.
        style: of the factors.
        method: with ``factor_average``, modules keep the rank and scale that the parents share.
        heads: of classifiers.

    Raises:
        InputError: kinds of change that a merged LoRA cannot hold.
        UsageError: a rank that full checkpoints do not have.
    """
    if any(parent.is_full for parent in parents) and rank.text in ("sum", "max"):
        expected, fix = (
            "a number, or energy=X",
            "give `rank` 64, say; full checkpoints have no rank",
        )
        raise UsageError(Problem("bad rank", "`rank`", rank.text, expected, fix))
    averaged = method.name == "factor_average"
    raise_all(_unlike(parents) if averaged else ())
    raise_all([*_refusals(parents), *_mix_problems(parents), *_naming_problems(parents)])
    changes: Changes = reference.changes if reference else [p.changes for p in parents]
    saved, keys = _saved(parents, changes, reference)
    raise_all(_vocabulary_problems(parents, saved, reference))
    if not method.is_sum:
        raise_all(_split_problems(method, changes, keys, reference))
    config = reference.model.config if reference else {}
    loras = (m for p in parents if p.adapter for m in p.adapter.modules.values())
    scale = max((m.scale for m in loras), default=1.0)
    kept = [one for one in heads.tensors if is_head(one.name)] if heads else []
    saved = (*saved, *(Saved(_key(one.name), one) for one in kept))
    linear = _linear_weights(reference)
    modules, left_out = [], []
    for name in sorted({name for parent in changes for name in parent}):
        one = _tensors(name, _in_one_layout(_lora_part(name, changes, keys)), reference)
        if _is_module(one, linear):
            modules.append(_module(one, config, None if averaged else scale))
        elif name not in keys and any(one.changes):
            left_out.append(one)
    turned = any(m.transposed and m.keys == _linear_keys(m.name) for m in modules)
    return LoraPlan(tuple(modules), saved, tuple(left_out), rank, style, turned)


def _saved(
    parents: Sequence[Parent], changes: Changes, reference: Reference | None
) -> tuple[tuple[Saved, ...], dict[str, str]]:
    """The adapter's whole tensors, and name to key of those that replace a base tensor."""
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


def _lora_part(name: str, changes: Changes, saved: Mapping[str, str]) -> list[Change | None]:
    """Per parent, the change without new values that are saved whole."""
    parts = [own.get(name) for own in changes]
    if name not in saved:
        return parts
    return [Change(lora=change.lora) if change and change.lora else None for change in parts]


def _in_one_layout(parts: Sequence[Change | None]) -> list[Change | None]:
    """LoRAs of a module in one layout: where no base is read, some may call a Conv1D linear."""
    layouts = {change.lora.layout for change in parts if change and change.lora}
    layout = next((one for one in layouts if one.endswith("transposed")), None)
    if layout is None:
        return list(parts)
    return [replace(c, lora=replace(c.lora, layout=layout)) if c and c.lora else c for c in parts]


def _tensors(name: str, parts: Sequence[Change | None], reference: Reference | None) -> Tensors:
    """One tensor in all parents.

    Raises:
        InputError: values of other shapes.
    """
    shapes = [shape for change in parts if change for shape in change.shapes[:1]]
    if len(set(shapes)) > 1:
        found = f"{name}: {' and '.join(map(str, sorted(set(shapes))))}"
        raise InputError(_vocabularies_differ(found, "one shape"))
    base = reference.base(name) if reference else None
    return Tensors(name, shapes[0] if shapes else (0,), tuple(parts), base)


def _linear_weights(reference: Reference | None) -> Collection[str] | None:
    """Names of the weights that PEFT can put a LoRA on; None where any matrix may be one.

    A router and a table of positions are matrices too, and the loaded model tells them apart.
    PEFT takes a target with the name of an expert's layer (``down_proj``) for the stacked
    experts, so that a LoRA on a dense layer of that name would be dropped.
    """
    if reference is None or not reference.model.widths:
        return None
    model = reference.model
    apart = [piece.name for stored in model.stored.values() for piece in stored.pieces]
    layers = {name.split(".")[-2] for name in apart}
    both = (*model.widths, *(model.transposed or ()))
    return {name for name in both if name.split(".")[-2] not in layers}


def _is_module(one: Tensors, linear: Collection[str] | None) -> bool:
    """Whether a LoRA of linear layers can hold its change."""
    if one.loras:
        return True
    if linear is not None and one.name not in linear:
        return False
    is_matrix = len(one.shape) == 2 and one.name.endswith(".weight")
    changed = any(change is not None for change in one.changes)
    looked_up = one.name.endswith((*BY_TOKEN, *POSITIONS))
    return changed and one.base is not None and is_matrix and not looked_up


def _module(one: Tensors, config: Mapping[str, Any], scale: float | None) -> Module:
    """A module of the plan.

    Args:
        one: its tensor in all parents.
        config: of the base, empty where no base is read.
        scale: of the merged factors; None keeps the rank and scale that the parents share.
    """
    ranks = tuple(lora.rank for lora in one.loras)
    if not ranks:
        name = one.name.removesuffix(".weight")
        turned = is_conv1d(name, config)
        d_in, d_out = one.shape if turned else one.shape[::-1]
        return Module(name, one, d_in, d_out, ranks, scale or 1.0, _linear_keys(name), turned)
    first = one.loras[0]
    if first.kind == "linear":
        keys = _linear_keys(first.name)
    elif first.kind == "embedding":
        keys = _key(f"{first.name}.lora_embedding_A"), _key(f"{first.name}.lora_embedding_B")
    else:
        keys = first.A.name, first.B.name  # how deep PEFT wraps it is in the name
    return Module(
        first.name,
        one,
        first.d_in,
        first.d_out,
        ranks,
        first.scale if scale is None else scale,
        keys,
        first.layout.endswith("transposed"),
        first.rank if scale is None else None,
        first.experts,
    )


def _linear_keys(name: str) -> tuple[str, str]:
    return _key(f"{name}.lora_A.weight"), _key(f"{name}.lora_B.weight")


def _key(name: str) -> str:
    """PEFT's name for a tensor of an adapter file."""
    return f"base_model.model.{name}"


# What a merged LoRA cannot hold.


def _unlike(parents: Sequence[Parent]) -> list[Problem]:
    """The problem of parents whose factors cannot be averaged."""
    shapes = [
        {n: (m.rank, m.d_in, m.d_out, m.scale) for n, m in parent.adapter.modules.items()}
        for parent in parents
        if parent.adapter
    ]
    if all(shape == shapes[0] for shape in shapes):
        return []
    found, fix = "parents that differ in modules, ranks or scales", "use `method` linear"
    expected = "the same modules, ranks and scales in all"
    return [Problem("cannot average factors", "parents", found, expected, fix)]


def _refusals(parents: Sequence[Parent]) -> list[Problem]:
    """Changes that make sense in one adapter and have no counterpart in a merged one."""
    problems = []
    for parent in parents:
        adapter = parent.adapter
        kinds = {
            "new rows of tokens (trainable_token_indices)": adapter and adapter.rows,
            "biases of the LoRA (lora_bias)": adapter and adapter.biases,
        }
        where, expected = str(parent.path), "factors and whole modules"
        has = [kind for kind, there in kinds.items() if there]
        problems += [Problem(_CANNOT, where, kind, expected, _INTO_FULL) for kind in has]
    adapters = [parent.adapter for parent in parents if parent.adapter]
    if len({_parameters(adapter) for adapter in adapters}) > 1:
        found, expected = "parents with different target_parameters", "the same in all"
        problems.append(Problem(_CANNOT, "parents", found, expected, _INTO_FULL))
    return problems


def _parameters(adapter: Adapter) -> tuple[str, ...]:
    modules = adapter.modules.values()
    return tuple(sorted({m.name.rpartition(".")[2] for m in modules if m.kind == "parameter"}))


def _mix_problems(parents: Sequence[Parent]) -> list[Problem]:
    """Ways to change one module that PEFT does not load together from one adapter.

    PEFT puts no LoRA on a module in ``modules_to_save``. It loads a tensor that is saved whole
    either into a copy or into the base itself, and has one ``ensure_weight_tying`` for all.
    """
    pairs = [(p.adapter, p.opened.config) for p in parents if p.adapter and p.opened.config]
    loras = {m.tensor for adapter, _ in pairs for m in adapter.modules.values()}
    saving = [config.targets for _, config in pairs if config.targets.saved]
    both = sorted(n for n in loras if any(targets.saves_tensor(n) for targets in saving))
    copied = set(chain.from_iterable(adapter.copied for adapter, _ in pairs))
    written = {n for adapter, _ in pairs for n in adapter.saved if n not in adapter.copied}
    found = [
        *(f"a LoRA on {name} and the same in modules_to_save" for name in both),
        *(f"{n} in modules_to_save and saved with the base" for n in sorted(copied & written)),
        *(["ensure_weight_tying of some parents only"] if len(_tying(pairs)) > 1 else []),
    ]
    expected = "one way to change a module"
    return [Problem(_CANNOT, "parents", text, expected, _INTO_FULL) for text in found[:1]]


def _tying(pairs: Sequence[tuple[Adapter, AdapterConfig]]) -> set[bool]:
    """``ensure_weight_tying`` of the parents that change an embedding or a head."""
    return {
        config.tying
        for adapter, config in pairs
        if any(
            name.endswith(BY_TOKEN)
            for name in (*(m.tensor for m in adapter.modules.values()), *adapter.saved)
        )
    }


def _naming_problems(parents: Sequence[Parent]) -> list[Problem]:
    """LoRAs of the same modules under different names; PEFT would load one and drop the other.

    For instance of a compiled model (``_orig_mod.``), or of one with and one without a vision
    part.
    """
    loras = {str(p.path): set(p.adapter.modules) for p in parents if p.adapter}
    expected = "the names that modules have in the base, the same in all"
    fix = "save it again from the model that was not wrapped, or rename its tensors"
    problems = []
    for where, names in loras.items():
        others = set().union(*(other for other in loras.values() if other.isdisjoint(names)))
        wrapped = (n for n in sorted(names) if _WRAPPER in f".{n}" or others & _endings(n))
        found = next(wrapped, None)
        if found:
            problems.append(Problem("modules under other names", where, found, expected, fix))
    return problems


def _endings(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[start:]) for start in range(1, len(parts))}


def _vocabulary_problems(
    parents: Sequence[Parent], saved: Sequence[Saved], reference: Reference | None
) -> list[Problem]:
    """Saved embeddings of parents whose tokenizers differ, and no base to align them with."""
    if reference or not any(one.tensors.name.endswith(BY_TOKEN) for one in saved):
        return []
    files = [parent.path / FILE for parent in parents]
    digests = {digest_file(path) for path in files if path.is_file()}
    if len(digests) < 2:
        return []
    return [_vocabularies_differ(f"{len(digests)} tokenizers", "one tokenizer")]


def _vocabularies_differ(found: str, expected: str) -> Problem:
    fix = "give `base`: tokens that a parent lacks get the base's rows"
    return Problem("vocabularies differ", "parents", found, expected, fix)


def _split_problems(
    method: Method, changes: Changes, saved: Mapping[str, str], reference: Reference | None
) -> list[Problem]:
    """Tensors that parents change by a LoRA and by new values, and a method that needs the sum.

    The adapter holds the two apart, so only a weighted sum can be taken of each by itself. PEFT
    saves the base's values with a LoRA on embeddings; those change nothing and are no problem.
    """
    problems = []
    fix = f"use `method` linear, or {_INTO_FULL}"
    for name in sorted(saved):
        parts = [own[name] for own in changes if name in own]
        base = reference.base(name) if reference else None
        if base is None or not any(part.lora for part in parts):
            continue
        if any(part.value and not _equal(part.value, base) for part in parts):
            found = f"{name}: a LoRA, and new values"
            where, expected = (
                f"`method` {method.name}",
                f"one of the two for `method` {method.name}",
            )
            problems.append(Problem(_CANNOT, where, found, expected, fix))
    return problems


def _equal(value: Value, base: Value) -> bool:
    """Whether two tensors hold the same numbers."""
    pieces = spans(tuple(base.shape))
    return all(torch.equal(*(upcast(v.rows(*piece)) for v in (value, base))) for piece in pieces)
