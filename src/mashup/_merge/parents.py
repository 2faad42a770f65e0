"""Parents of a merge: described from headers, checked against each other, weighted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from mashup._merge.changes import Change, OnDisk
from mashup._merge.methods import Method
from mashup.checkpoint import Adapter, Checkpoint, LoraModule, Opened, open_checkpoint
from mashup.checkpoint.fit import FOREIGN, identity_problem
from mashup.checkpoint.read import with_unique_names
from mashup.errors import Problem, UsageError, gather, raise_all
from mashup.library import adapter_digest, model_digest
from mashup.library.sources import folder_of
from mashup.settings import MergeSettings, WeightsName
from mashup.weights import read


@dataclass(frozen=True)
class Parent:
    """One checkpoint that goes into a merge; its numbers are read when they are needed.

    Attributes:
        opened: its settings and headers.
        digest: of its content.
        weight: its coefficient, before λ.
        place: its position in the order that the user gave.
        moved: its changes, where they were aligned with the base's head or vocabulary.
    """

    opened: Opened
    digest: str
    weight: float
    place: int
    moved: Mapping[str, Change] | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        return self.opened.checkpoint

    @property
    def path(self) -> Path:
        return self.opened.path

    @property
    def adapter(self) -> Adapter | None:
        """What a LoRA changes; None for a full checkpoint."""
        return self.opened.adapter

    @property
    def is_full(self) -> bool:
        return self.opened.is_full

    @cached_property
    def changes(self) -> Mapping[str, Change]:
        """Name of a base tensor to what this parent changes in it."""
        if self.moved is not None:
            return self.moved
        values = {name: OnDisk(stored) for name, stored in self.opened.values.items()}
        if self.adapter is None:
            return {name: Change(value) for name, value in values.items()}
        loras = {module.tensor: module for module in self.adapter.modules.values()}
        rows, shifts = self.adapter.rows, self.adapter.biases
        return {
            name: Change(values.get(name), loras.get(name), rows.get(name), shifts.get(name))
            for name in sorted(loras.keys() | values.keys() | rows.keys() | shifts.keys())
        }


def weights_for(
    method: Method,
    weights: Sequence[float] | WeightsName,
    count: int,
    losses: Sequence[float] | None,
) -> tuple[float, ...]:
    """One weight per parent.

    Args:
        method: decides what ``uniform`` is: 1/k each, or 1 each for methods that sum.
        weights: numbers, ``uniform``, or ``loss``, which is ``softmax(-losses)``.
        count: of parents.
        losses: of the parents on the task's sample, in nats a token; for ``loss``.

    Raises:
        UsageError: a number of weights other than ``count``, weights that are not finite or all
            zero, or no losses to make them from.
    """
    if count == 0:
        raise UsageError(Problem("nothing to merge", "parents", "none", "at least one"))
    measure = "use mashup init, or mashup merge with `base` and `dataset`"
    if weights == "uniform":
        return (1.0 if method.sums else 1 / count,) * count
    if weights == "loss":
        if losses is None or len(losses) != count or not all(map(math.isfinite, losses)):
            raise UsageError(Problem("no losses of the parents", "`weights` loss", fix=measure))
        parts = [math.exp(min(losses) - loss) for loss in losses]
        return tuple(part / sum(parts) for part in parts)
    given, what = tuple(map(float, weights)), "bad weights"
    found, expected = str(list(given)), ""
    if len(given) != count:
        what, found, expected = "wrong number of weights", str(len(given)), f"{count}, one each"
    elif not all(map(math.isfinite, given)) or not any(given):
        expected = "finite numbers, not all zero"
    elif _divides(method) and (min(given) < 0 or not sum(given) > 0):
        expected = f"numbers of at least 0: {method.name} divides by their sum"
    if expected:
        raise UsageError(Problem(what, "`weights`", found, expected))
    return given


def rule_problems(method: Method, settings: MergeSettings, count: int) -> list[Problem]:
    """Rules for some tensors that the method or this number of parents cannot use."""
    rules, problems = settings.per_module, []
    where = "`per_module`"
    if (rules or settings.normalize) and method.name in ("greedy_soup", "factor_average"):
        fix = "use `method` linear, or leave out `per_module` and `normalize`"
        found = "other weights for some tensors"
        where_method = f"`method` {method.name}"
        problems.append(Problem("one weight for all tensors", where_method, found, fix=fix))
    far = sorted({rule.parent for rule in rules if rule.parent and rule.parent > count})
    if far:
        expected = f"1 to {count}, the place of a checkpoint"
        problems.append(Problem("no such parent", where, ", ".join(map(str, far)), expected))
    weights = [weight for rule in rules for weight in rule.weight or ()]
    if _divides(method) and any(weight < 0 for weight in weights):
        expected = f"numbers of at least 0: {method.name} divides by their sum"
        problems.append(Problem("bad weights", where, str(min(weights)), expected))
    densities = [settings.density, *(d for rule in rules for d in rule.density or ())]
    widest = max([settings.epsilon, *(e for rule in rules for e in rule.epsilon or ())])
    if rules and "epsilon" in method.takes and widest >= min(densities):
        expected = f"less than the least density, {min(densities)}"
        problems.append(Problem("bad setting", "`epsilon`", str(widest), expected))
    return problems


def counting(parents: Sequence[Parent], method: Method, settings: MergeSettings) -> list[Parent]:
    """The parents that are read: those without a weight only where a rule may give them one."""
    everybody = method.needs_gram or any(rule.weight for rule in settings.per_module)
    return [parent for parent in parents if parent.weight != 0 or everybody]


def _divides(method: Method) -> bool:
    return method.elect or method.name == "slerp"


def open_parents(given: Sequence[Checkpoint | Opened | str | Path]) -> list[Opened]:
    """Read the settings and headers of all parents, once, and give each a name of its own.

    Raises:
        InputError: parents that are missing or broken; all at once.
    """
    opened = gather(*(partial(_opened, one) for one in given))
    named = with_unique_names(one.checkpoint for one in opened)
    return [replace(one, checkpoint=name) for one, name in zip(opened, named, strict=True)]


def _opened(given: Checkpoint | Opened | str | Path) -> Opened:
    if isinstance(given, Opened):
        return given
    return open_checkpoint(given if isinstance(given, Checkpoint) else folder_of(given))


def make_parents(
    opened: Sequence[Opened], weights: Sequence[float], *, base: str | None, accept_base: bool
) -> tuple[Parent, ...]:
    """The parents, sorted by content, so that the result does not depend on their order.

    What cannot be averaged is taken by :attr:`Parent.place`. A full checkpoint's digest covers
    samples of its weights only; where two are equal, their paths decide.

    Args:
        opened: in the order of the user.
        weights: one per checkpoint.
        base: name of the base, where the caller gives it.
        accept_base: accept parents whose base name differs or is blank.

    Raises:
        InputError: parents of different bases, or LoRAs that change nothing; all at once.
    """
    if not accept_base:
        named = base or next((one.checkpoint.base for one in opened if one.checkpoint.base), "")
        raise_all(_identity_problem(one.checkpoint, named, given=base) for one in opened)
    raise_all(_shape_problems(opened))
    raise_all(_changes_nothing(one.path) for one in opened if _is_zero(one.adapter))
    parents = [
        Parent(one, model_digest(one) if one.is_full else adapter_digest(one), weight, place)
        for place, (one, weight) in enumerate(zip(opened, weights, strict=True))
    ]
    return tuple(sorted(parents, key=lambda p: (p.digest, p.weight, str(p.path.resolve()))))


def _identity_problem(parent: Checkpoint, named: str, given: str | None) -> Problem | None:
    """The problem of a parent with another base than ``named``, which the first parent may name."""
    problem = identity_problem(parent, named)
    if problem is None or given or problem.code != FOREIGN:
        return problem
    fix = "merge checkpoints of one base, or pass `accept_base` if both names mean one model"
    return replace(problem, fix=fix)


def _shape_problems(parents: Sequence[Opened]) -> list[Problem]:
    """LoRAs whose modules have other widths than the same modules of the parents before them.

    Widths are compared, not shapes, since an adapter does not always say whether the base stores
    a weight transposed.
    """
    seen: dict[str, tuple[int, ...]] = {}
    problems = []
    for parent in parents:
        modules = parent.adapter.modules.values() if parent.adapter else ()
        shapes = {module.tensor: _widths(module) for module in modules}
        wrong = [n for n, shape in shapes.items() if seen.setdefault(n, shape) != shape]
        if wrong:
            found = f"{wrong[0]}: {shapes[wrong[0]]}"
            expected = f"{seen[wrong[0]]} as in the others"
            where, fix = str(parent.path), "merge checkpoints of one base"
            problems.append(Problem("checkpoints of different bases", where, found, expected, fix))
    return problems


def _widths(module: LoraModule) -> tuple[int, ...]:
    both = (module.d_out, module.d_in)
    return both if module.experts == 1 else (module.experts, *both)


def _is_zero(adapter: Adapter | None) -> bool:
    """Whether a LoRA changes nothing: B = 0, as before any training, or s = 0."""
    if adapter is None or adapter.saved or adapter.rows or adapter.biases:
        return False
    return not any(m.scale and bool(read(m.B).any()) for m in adapter.modules.values())


def _changes_nothing(path: Path) -> Problem:
    found, fix = "B = 0 (it was saved before it was trained) or lora_alpha = 0", "leave it out"
    return Problem("adapter changes nothing", str(path), found, "a trained adapter", fix)
