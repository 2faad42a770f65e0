"""Parents of a merge: described from headers, checked against each other, weighted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mashup._merge.changes import Change, OnDisk
from mashup._merge.methods import Method
from mashup.checkpoint import (
    Adapter,
    Checkpoint,
    LoraModule,
    Stored,
    read_adapter,
    read_adapter_config,
    read_checkpoint,
)
from mashup.checkpoint.fit import identity_problem
from mashup.checkpoint.full import read_untied
from mashup.checkpoint.read import with_unique_names
from mashup.errors import InputError, Problem, UsageError, raise_all
from mashup.library import adapter_digest, model_digest
from mashup.settings import WeightsName
from mashup.weights import read


@dataclass(frozen=True)
class Parent:
    """One checkpoint that goes into a merge; its numbers are read when they are needed.

    Attributes:
        checkpoint: what and where it is.
        digest: of its content.
        weight: its coefficient, before λ.
        place: its position in the order that the user gave.
        adapter: what a LoRA changes; None for a whole model.
        tensors: of a whole model, without a head that repeats the embeddings.
        moved: its changes, where they were aligned with the base's layout or vocabulary.
    """

    checkpoint: Checkpoint
    digest: str
    weight: float
    place: int
    adapter: Adapter | None
    tensors: Mapping[str, Stored]
    moved: Mapping[str, Change] | None = None

    @cached_property
    def changes(self) -> Mapping[str, Change]:
        """Name of a base tensor to what this parent changes in it."""
        if self.moved is not None:
            return self.moved
        if self.adapter is None:
            return {name: Change(OnDisk(stored)) for name, stored in self.tensors.items()}
        return changes_of(self.adapter)

    @property
    def is_full(self) -> bool:
        return self.adapter is None


def changes_of(adapter: Adapter) -> dict[str, Change]:
    """Name of a base tensor to what a LoRA changes in it."""
    loras = {module.tensor: module for module in adapter.modules.values()}
    saved = {name: OnDisk(stored) for name, stored in adapter.saved.items()}
    rows, shifts = adapter.rows, adapter.biases
    return {
        name: Change(saved.get(name), loras.get(name), rows.get(name), shifts.get(name))
        for name in sorted(loras.keys() | saved.keys() | rows.keys() | shifts.keys())
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
        weights: numbers, ``uniform``, or ``loss``, which is ``softmax(-losses)``. ``newton``
            needs the model: :func:`mashup._init.newton` turns it into numbers.
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
    if weights == "newton":
        raise UsageError(Problem("nothing to measure on", "`weights` newton", fix=measure))
    if weights == "loss":
        if losses is None or len(losses) != count or not all(map(math.isfinite, losses)):
            raise UsageError(Problem("no losses of the parents", "`weights` loss", fix=measure))
        parts = [math.exp(min(losses) - loss) for loss in losses]
        return tuple(part / sum(parts) for part in parts)
    given, what = tuple(map(float, weights)), "bad weights"
    divides = method.elect or method.name == "slerp"
    found, expected = str(list(given)), ""
    if len(given) != count:
        what, found, expected = "wrong number of weights", str(len(given)), f"{count}, one each"
    elif not all(map(math.isfinite, given)) or not any(given):
        expected = "finite numbers, not all zero"
    elif divides and (min(given) < 0 or not sum(given) > 0):
        expected = f"numbers of at least 0: {method.name} divides by their sum"
    if expected:
        raise UsageError(Problem(what, "`weights`", found, expected))
    return given


def read_parents(
    checkpoints: Sequence[Checkpoint | str | Path],
    weights: Sequence[float],
    *,
    base: str | None = None,
    accept_base: bool,
) -> tuple[Parent, ...]:
    """Describe the parents, sorted by content, so that the result does not depend on their order.

    What cannot be averaged is taken by :attr:`Parent.place`. A full checkpoint's digest covers
    samples of its weights only; where two are equal, their paths decide.

    Args:
        checkpoints: by value or path.
        weights: one per checkpoint.
        base: name of the base, where the caller gives it.
        accept_base: accept parents whose base name differs or is blank.

    Raises:
        InputError: a parent that is broken or names another base; all at once.
    """
    found = with_unique_names(
        c if isinstance(c, Checkpoint) else read_checkpoint(Path(c)) for c in checkpoints
    )
    raise_all(checkpoint.problem for checkpoint in found if checkpoint.problem)
    if not accept_base:
        raise_all(_base_problems(found, base))
    parents: list[Parent] = []
    problems: list[Problem] = []
    for place, (checkpoint, weight) in enumerate(zip(found, weights, strict=True)):
        try:
            parents.append(_parent(checkpoint, weight, place))
        except InputError as error:
            problems += error.problems
    raise_all([*problems, *_shape_problems(parents)])
    raise_all(_changes_nothing(parent) for parent in parents if _is_zero(parent))
    return tuple(sorted(parents, key=_content))


def _content(parent: Parent) -> tuple[str, float, str]:
    return parent.digest, parent.weight, str(parent.checkpoint.path.resolve())


def _parent(checkpoint: Checkpoint, weight: float, place: int) -> Parent:
    folder = checkpoint.path
    if checkpoint.kind == "lora":
        adapter = read_adapter(folder, read_adapter_config(folder))
        return Parent(checkpoint, adapter_digest(folder), weight, place, adapter, {})
    return Parent(checkpoint, model_digest(folder), weight, place, None, read_untied(folder)[0])


def _shape_problems(parents: Sequence[Parent]) -> list[Problem]:
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
            where, fix = str(parent.checkpoint.path), "merge checkpoints of one base"
            problems.append(Problem("checkpoints of different bases", where, found, expected, fix))
    return problems


def _widths(module: LoraModule) -> tuple[int, ...]:
    both = (module.d_out, module.d_in)
    return both if module.experts == 1 else (module.experts, *both)


def _is_zero(parent: Parent) -> bool:
    """Whether a LoRA changes nothing: B = 0, as before any training, or s = 0."""
    adapter = parent.adapter
    if adapter is None or adapter.saved or adapter.rows or adapter.biases:
        return False
    return not any(m.scale and bool(read(m.B).any()) for m in adapter.modules.values())


def _changes_nothing(parent: Parent) -> Problem:
    found, fix = "B = 0 (it was saved before it was trained) or lora_alpha = 0", "leave it out"
    where = str(parent.checkpoint.path)
    return Problem("adapter changes nothing", where, found, "a trained adapter", fix)


def _base_problems(checkpoints: Sequence[Checkpoint], base: str | None) -> list[Problem]:
    """Parents that name no base, or another one than ``base`` or the first named one."""
    named = base or next((c.base for c in checkpoints if c.base), "")
    found = (identity_problem(checkpoint, named) for checkpoint in checkpoints)
    return [problem for problem in found if problem]
