"""A merge in memory, to be measured before it is written."""

from __future__ import annotations

from typing import Any

import torch

from mashup._merge.combine import Recipe, Tensors, coefficients, merged_values, open_changes
from mashup._merge.modules import LoraPlan, Module
from mashup._merge.prepare import Prepared
from mashup._merge.spectra import joined
from mashup.delta import Delta, Factors


def merged_in_memory(prepared: Prepared) -> Delta:
    """The merge as a delta that a loaded base can be given; for methods that are weighted sums.

    LoRAs stay in factors, stacked and exact; whole models become whole tensors.
    """
    plan, recipe = prepared.plan, prepared.recipe
    if isinstance(plan, LoraPlan):
        modules = {module.name: _stacked(module, recipe) for module in plan.modules}
        return Delta(modules, plan.fan_in_fan_out, **_beside(prepared))
    return Delta({}, False, saved={one.name: _whole(one, recipe) for one in plan.tensors})


def _beside(prepared: Prepared) -> dict[str, Any]:
    """What a LoRA changes beside its factors, as its parents' adapters tell it apart."""
    plan = prepared.plan
    assert isinstance(plan, LoraPlan)
    adapters = [parent.adapter for parent in prepared.parents if parent.adapter]
    originals = {stored.name for adapter in adapters for stored in adapter.originals.values()}
    made = {saved.key: _whole(saved.tensors, prepared.recipe) for saved in plan.saved}
    names = {saved.key: saved.tensors.name for saved in plan.saved}
    return {
        "saved": {names[key]: value for key, value in made.items() if key not in originals},
        "originals": {names[key]: value for key, value in made.items() if key in originals},
        "copied": frozenset().union(*(adapter.copied for adapter in adapters)),
    }


def _stacked(module: Module, recipe: Recipe) -> Factors:
    """Factors of the merge side by side, exact; of each expert by itself."""
    opened = open_changes(module.tensors)
    mixed = coefficients(recipe, module.tensors, opened)
    loras = [(mixed[i], one.factors.split()) for i, one in opened.items() if one.factors]
    made = []
    for number in range(module.experts):
        A = torch.cat([split[number].A for _, split in loras])
        halves = [c * split[number].scale * split[number].B for c, split in loras]
        made.append(Factors(A, torch.cat(halves, dim=1), 1.0))
    kind = next(one.factors.kind for one in opened.values() if one.factors)
    return Factors(*joined(made), 1.0, kind, module.experts)


def _whole(one: Tensors, recipe: Recipe) -> torch.Tensor:
    return torch.cat([rows.clone() for _, _, rows in merged_values(recipe, one)])
