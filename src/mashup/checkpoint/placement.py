"""Two-way coverage: every tensor of a checkpoint has a place, and every place is filled.

Half-loaded checkpoints are the silent fault of this field, so both directions are errors;
``--allow-partial`` goes on, and what was left out stands in the manifest. Names and shapes
decide, so headers are enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mashup.checkpoint.adapter import Adapter, LoraModule
from mashup.errors import Problem

Shape = tuple[int, ...]
_FIX = "give the base that it was trained on, or pass `allow_partial` to merge what fits"
#: Buffers that some versions of transformers saved and that are computed, not trained.
COMPUTED = ("rotary_emb.inv_freq", "masked_bias", "attn.bias")


@dataclass(frozen=True)
class Coverage:
    """What of a checkpoint does not fit.

    Attributes:
        fitting: names of the base's tensors that it changes.
        unused: tensors of the checkpoint that the base does not have.
        missing: tensors of the base that a whole model lacks.
        misshapen: tensors of another shape, as ``name: shape, not shape``.
    """

    fitting: frozenset[str]
    unused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()

    @property
    def is_partial(self) -> bool:
        return bool(self.unused or self.missing or self.misshapen)

    def problems(self, where: str) -> list[Problem]:
        """One problem a kind of misfit, with how many there are and the first of them."""
        return [
            *_problem("tensors without a place", where, self.unused, "tensors of the base"),
            *_problem("tensors missing", where, self.missing, "all tensors of the base"),
            *_problem("tensors of another shape", where, self.misshapen, "the base's shapes"),
        ]

    def to_json(self) -> dict[str, list[str]]:
        return {
            "unused": list(self.unused),
            "missing": list(self.missing),
            "misshapen": list(self.misshapen),
        }


def _problem(what: str, where: str, names: tuple[str, ...], expected: str) -> list[Problem]:
    if not names:
        return []
    found = f"{len(names)}, the first {names[0]}"
    return [Problem(what, where, found, expected, _FIX)]


def coverage(
    shapes: Mapping[str, Sequence[Shape]], base: Mapping[str, Shape], *, whole: bool
) -> Coverage:
    """Match what a checkpoint changes with the tensors of the base, by name and shape.

    Args:
        shapes: name of a base tensor to the shapes of what changes it (a value, a LoRA, both).
        base: name to shape.
        whole: whether the checkpoint is a model, which must then have all of the base's tensors.
    """
    names = [name for name in shapes if name in base]
    wrong = {name: _misfit(shapes[name], base[name]) for name in names}
    absent = [name for name in base if name not in shapes] if whole else []
    return Coverage(
        frozenset(name for name in names if not wrong[name]),
        _trained(name for name in shapes if name not in base),
        _trained(absent),
        tuple(f"{name}: {wrong[name]}" for name in names if wrong[name]),
    )


def _trained(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if not name.endswith(COMPUTED))


def _misfit(shapes: Sequence[Shape], expected: Shape) -> str | None:
    wrong = next((shape for shape in shapes if tuple(shape) != expected), None)
    return None if wrong is None else f"{list(wrong)}, not {list(expected)}"


def shapes_of(adapter: Adapter) -> dict[str, list[Shape]]:
    """Name of a base tensor to the shapes that an adapter expects of it."""
    shapes: dict[str, list[Shape]] = {name: [one.shape] for name, one in adapter.saved.items()}
    for module in adapter.modules.values():
        shapes.setdefault(module.tensor, []).append(shape_of(module))
    for name, (_, stored) in adapter.biases.items():
        shapes.setdefault(name, []).append(stored.shape)
    for name in adapter.rows:
        shapes.setdefault(name, [])
    return shapes


def shape_of_rows(ids: Sequence[int], new: Shape, base: Shape) -> Shape:
    """The shape that an embedding needs to take new rows: its own where all of them fit."""
    rows = base[0] if base else 0
    fits = 0 <= min(ids) <= max(ids) < rows
    wrong = min(ids) if min(ids) < 0 else max(ids) + 1
    return (rows if fits else wrong, *new[1:])


def shape_of(module: LoraModule) -> Shape:
    """The shape of the base's tensor that a LoRA changes."""
    both = (module.d_out, module.d_in)
    turned = both[::-1] if module.layout.endswith("transposed") else both
    return turned if module.experts == 1 else (module.experts, *turned)
