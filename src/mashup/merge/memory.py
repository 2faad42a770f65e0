"""A merge in memory, to be measured before it is written."""

from __future__ import annotations

import torch

from mashup.delta import Delta, Factors
from mashup.merge.combine import Recipe, Tensors, coefficients, merged_values, open_changes
from mashup.merge.lora import LoraPlan, Module
from mashup.merge.prepare import Prepared


def merged_in_memory(prepared: Prepared) -> Delta:
    """The merge as a delta that a loaded base can be given; for methods that are weighted sums.

    LoRAs stay in factors, stacked and exact; whole models become whole tensors.
    """
    plan, recipe = prepared.plan, prepared.recipe
    if isinstance(plan, LoraPlan):
        modules = {module.name: _stacked(module, recipe) for module in plan.modules}
        saved = {one.name: _whole(one, recipe) for one in plan.saved}
        return Delta(modules, plan.fan_in_fan_out, saved=saved)
    return Delta({}, False, saved={one.name: _whole(one, recipe) for one in plan.tensors})


def _stacked(module: Module, recipe: Recipe) -> Factors:
    opened = open_changes(module.tensors)
    mixed = coefficients(recipe, module.tensors, opened)
    loras = [(mixed[i], one.factors) for i, one in opened.items() if one.factors]
    A = torch.cat([f.A for _, f in loras])
    B = torch.cat([c * f.scale * f.B for c, f in loras], dim=1)
    return Factors(A, B, 1.0)


def _whole(one: Tensors, recipe: Recipe) -> torch.Tensor:
    return torch.cat([rows.clone() for _, _, rows in merged_values(recipe, one)])
