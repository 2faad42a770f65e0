"""Two-way coverage: every tensor of a parent has a place, and every place is filled.

Half-loaded checkpoints are the silent fault of this field, so both directions are errors;
``--allow-partial`` goes on, and what was left out stands in the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mashup.checkpoint import Stored
from mashup.errors import Problem
from mashup.merge.changes import Change
from mashup.merge.parents import Parent

_FIX = "give the base that it was trained on, or pass --allow-partial to merge what fits"
#: Buffers that some versions of transformers saved and that are computed, not trained.
_COMPUTED = ("rotary_emb.inv_freq", "masked_bias", "attn.bias")


@dataclass(frozen=True)
class Covered:
    """A parent's changes that have a place, and what does not fit.

    Attributes:
        changes: name of a tensor of the reference to its change.
        unused: tensors of the parent that the reference does not have.
        missing: tensors of the reference that a whole model lacks.
        misshapen: tensors of another shape, as ``name: shape, not shape``.
    """

    changes: Mapping[str, Change]
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


def cover(parent: Parent, reference: Mapping[str, Stored]) -> Covered:
    """Match a parent's changes with the tensors of ``reference`` by name and shape."""
    fitting: dict[str, Change] = {}
    unused, misshapen = [], []
    for name, change in parent.changes.items():
        if name not in reference:
            if not name.endswith(_COMPUTED):
                unused.append(name)
            continue
        wrong = _misfit(change, reference[name])
        if wrong:
            misshapen.append(f"{name}: {wrong}")
        else:
            fitting[name] = change
    absent = [name for name in reference if name not in parent.changes] if parent.is_full else []
    missing = [name for name in absent if not name.endswith(_COMPUTED)]
    return Covered(fitting, tuple(unused), tuple(missing), tuple(misshapen))


def _misfit(change: Change, stored: Stored) -> str | None:
    for part in (change.value, change.lora):
        if part is not None and tuple(part.shape) != stored.shape:
            return f"{list(part.shape)}, not {list(stored.shape)}"
    return None
