"""Put a checkpoint's delta on the base, in place, and take it off bit for bit.

``W + s·B·A`` is computed in float32 and rounded once to the base's dtype. The
touched weights are kept aside the first time and copied back afterwards, so the
base is bit-identical after every checkpoint, whatever happened in between.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mashup.checkpoint import LoraModule
from mashup.delta import Delta, Factors
from mashup.errors import InputError, Problem

#: What :func:`module_problems` calls an adapter none of whose modules fits.
OTHER_BASE = "adapter of another base"


class Patch:
    """The place on one base model where deltas are put on and taken off.

    Memory: one copy of every weight that any delta has touched.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._kept: dict[str, Tensor] = {}

    @contextlib.contextmanager
    def applied(self, delta: Delta) -> Iterator[None]:
        """The model computes base plus ``delta`` within the block, exactly the base after it.

        Raises:
            InputError: the delta names a module that the base does not have.
        """
        touched: list[tuple[nn.Parameter, Tensor]] = []
        try:
            with torch.no_grad():
                for name, factors in delta.modules.items():
                    module = self._module(name)
                    kept = self._keep(name, module.weight)
                    touched.append((module.weight, kept))
                    _add(module.weight, kept, factors, transposed=is_transposed(module))
            yield
        finally:
            with torch.no_grad():
                for weight, kept in touched:
                    weight.copy_(kept)

    def _module(self, name: str) -> Any:
        module = _find(self._model, name)
        if module is None:
            fix = "give the base that this adapter was trained on"
            raise InputError(Problem("no such module in the base", name, fix=fix))
        return module

    def _keep(self, name: str, weight: nn.Parameter) -> Tensor:
        if name not in self._kept:
            self._kept[name] = weight.detach().clone()
        return self._kept[name]


def _add(weight: Tensor, kept: Tensor, factors: Factors, *, transposed: bool) -> None:
    device = weight.device
    left, right = factors.B.to(device), factors.A.to(device)
    if transposed:
        left, right = right.T, left.T
    total = torch.addmm(kept.to(left.dtype), left, right, alpha=factors.scale)
    weight.copy_(total)


def is_transposed(module: nn.Module) -> bool:
    """Whether a module keeps its weight as ``(d_in, d_out)``, as GPT-2's Conv1D does."""
    return type(module).__name__ == "Conv1D"


def _find(model: nn.Module, name: str) -> Any | None:
    try:
        module = model.get_submodule(name)
    except AttributeError:
        return None
    return module if isinstance(getattr(module, "weight", None), Tensor) else None


def module_problems(model: nn.Module, modules: Collection[LoraModule], where: str) -> list[Problem]:
    """Why an adapter with these modules does not fit ``model``; empty when it does.

    Every module must be there, with this shape, floating point, and not tied to another
    module (a patch would change that one as well).
    """
    faults = [(lora.name, fault) for lora in modules if (fault := _fault(model, lora))]
    if not faults:
        return []
    name, fault = faults[0]
    found = f"{len(faults)} of {len(modules)} modules do not fit, the first {name}: {fault}"
    fix = "give the base that this adapter was trained on, or leave the adapter out"
    what = OTHER_BASE if len(faults) == len(modules) else "adapter fits only in part"
    return [Problem(what, where, found, f"modules of {type(model).__name__}", fix)]


def _fault(model: nn.Module, lora: LoraModule) -> str | None:
    module = _find(model, lora.name)
    if module is None:
        return "missing"
    shape = tuple(module.weight.shape)
    shape = shape[::-1] if is_transposed(module) else shape
    if not module.weight.is_floating_point():
        return f"quantised to {module.weight.dtype}"
    if shape != (lora.d_out, lora.d_in):
        return f"shape {shape} in the base, {(lora.d_out, lora.d_in)} in the adapter"
    return "tied to the embeddings" if _is_tied(model, module) else None


def _is_tied(model: nn.Module, module: Any) -> bool:
    embeddings = getattr(model, "get_input_embeddings", lambda: None)()
    return (
        embeddings is not None and embeddings is not module and embeddings.weight is module.weight
    )
