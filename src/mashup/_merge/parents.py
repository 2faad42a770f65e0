"""Parents of a merge: described from headers, checked against each other, weighted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mashup._merge.changes import Change, Lora
from mashup._merge.values import OnDisk
from mashup.checkpoint import (
    Adapter,
    Checkpoint,
    LoraModule,
    Stored,
    read_adapter,
    read_adapter_config,
    read_checkpoint,
    same_base,
)
from mashup.checkpoint.read import with_unique_names
from mashup.checkpoint.ties import read_untied
from mashup.errors import InputError, Problem, raise_all
from mashup.library import adapter_digest, model_digest
from mashup.weights import read


@dataclass(frozen=True)
class Parent:
    """One checkpoint that goes into a merge, by place; its numbers are read when needed.

    Attributes:
        checkpoint: what and where it is.
        digest: of its content.
        weight: as it is used.
        place: its number in the order that the user gave.
        adapter: what a LoRA changes; None for a whole model.
        tensors: of a whole model, without a head that repeats the embeddings.
        moved: its changes, where they were aligned with another vocabulary.
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
    loras = {module.tensor: Lora(module) for module in adapter.modules.values()}
    saved = {name: OnDisk(stored) for name, stored in adapter.saved.items()}
    rows, shifts = adapter.rows, adapter.biases
    return {
        name: Change(saved.get(name), loras.get(name), rows.get(name), shifts.get(name))
        for name in sorted(loras.keys() | saved.keys() | rows.keys() | shifts.keys())
    }


def read_parents(
    checkpoints: Sequence[Checkpoint | str | Path],
    weights: Sequence[float],
    *,
    base: str | None = None,
    accept_base: bool,
) -> tuple[Parent, ...]:
    """Describe the parents, sorted by content so that weights do not depend on their order.

    What cannot be averaged goes by :attr:`Parent.place`. A whole model's digest is of samples:
    where two have the same, their paths decide.

    Args:
        checkpoints: by value or path.
        weights: one a checkpoint.
        base: name of the base, where the caller gives it.
        accept_base: take parents whose base's name differs or is blank.

    Raises:
        InputError: a parent that is broken or says that it has another base; all at once.
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
    """LoRAs whose modules have other widths than the same modules of those before them.

    Widths, not shapes: adapters do not always say which way round the base stores a weight.
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
    """Whether a LoRA changes nothing, as one that was never trained does (B = 0 or s = 0)."""
    adapter = parent.adapter
    if adapter is None or adapter.saved or adapter.rows or adapter.biases:
        return False
    return not any(m.scale and bool(read(m.B).any()) for m in adapter.modules.values())


def _changes_nothing(parent: Parent) -> Problem:
    found, fix = "B = 0 (it was saved before it was trained) or lora_alpha = 0", "leave it out"
    where = str(parent.checkpoint.path)
    return Problem("adapter changes nothing", where, found, "a trained adapter", fix)


def _base_problems(checkpoints: Sequence[Checkpoint], base: str | None) -> list[Problem]:
    """Parents that name no base, or another one than ``base`` or the first that is named."""
    named = base or next((c.base for c in checkpoints if c.base), "")
    fix = "merge checkpoints of one base, or pass `accept_base` if it is the same model"
    problems = []
    for checkpoint in checkpoints:
        where = str(checkpoint.path)
        if not checkpoint.base:
            problems.append(Problem("base model not named", where, "a blank name", named, fix))
        elif same_base(checkpoint.base, named) is False:
            found = checkpoint.base
            problems.append(Problem("checkpoints of different bases", where, found, named, fix))
    return problems
