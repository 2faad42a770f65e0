"""Does an adapter fit a loaded base: is all that it changes there, and all that it should change
in the adapter?"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from torch import nn

from mashup.checkpoint import FOREIGN, Adapter, AdapterConfig, LoraModule
from mashup.errors import Problem
from mashup.model.apply import adapted, is_transposed
from mashup.model.swap import find, owner

_Faults = list[tuple[str, str]]


def module_problems(model: nn.Module, modules: Collection[LoraModule], where: str) -> list[Problem]:
    """Why an adapter with these modules does not fit ``model``; empty when it does.

    Every module must be there, with these widths.
    """
    return _problems(model, modules, [], where)


def adapter_problems(
    model: nn.Module, adapter: Adapter, config: AdapterConfig, where: str
) -> list[Problem]:
    """Why an adapter does not fit ``model``; empty when it does.

    All that it changes must be there, with these shapes; and all modules, parameters and
    biases of the base that its settings name must have weights, since PEFT would start those
    from nothing.
    """
    return _problems(
        model,
        tuple(adapter.modules.values()),
        [*_value_faults(model, adapter), *_missing(model, adapter, config)],
        where,
    )


def _problems(
    model: nn.Module, modules: Collection[LoraModule], others: _Faults, where: str
) -> list[Problem]:
    faults = [(lora.name, fault) for lora in modules if (fault := _fault(model, lora))]
    is_other = bool(faults) and len(faults) == len(modules)
    faults += [] if is_other else others
    if not faults:
        return []
    name, fault = faults[0]
    count = f"{len(faults)} of {len(modules)} modules do not fit, the first"
    if len(faults) > len(modules) or others:
        count = f"{len(faults)} things do not fit, the first"
    fix = "give the base that this adapter was trained on, or leave the adapter out"
    what = "adapter of another base" if is_other else "adapter fits only in part"
    found, expected = f"{count} {name}: {fault}", f"modules of {type(model).__name__}"
    return [Problem(what, where, found, expected, fix, FOREIGN if is_other else "")]


def _fault(model: nn.Module, lora: LoraModule) -> str | None:
    if lora.kind == "parameter":
        return _parameter_fault(model, lora)
    module = adapted(model, lora.name)
    if module is None:
        return "missing"
    if isinstance(module, nn.Embedding) != (lora.kind == "embedding"):
        return f"a {type(module).__name__} in the base, a LoRA for another kind in the adapter"
    widths, wanted = _widths(module), (lora.d_in, lora.d_out)
    return None if widths == wanted else f"{widths} in the base, {wanted} in the adapter"


def _widths(module: Any) -> tuple[int, int]:
    """``(d_in, d_out)``, also of quantised layers and of GPT-2's transposed Conv1D."""
    if hasattr(module, "in_features"):
        return module.in_features, module.out_features
    shape = tuple(module.weight.shape)
    is_transposed = isinstance(module, nn.Embedding) or type(module).__name__ == "Conv1D"
    return shape if is_transposed else shape[::-1]


def _parameter_fault(model: nn.Module, lora: LoraModule) -> str | None:
    parameter = find(model, lora.name)
    if parameter is None:
        return "missing"
    widths = (lora.d_out, lora.d_in)
    is_stack = parameter.dim() == 3
    if is_stack and is_transposed(owner(model, lora.name)[0]):
        widths = (lora.d_in, lora.d_out)
    wanted = (lora.experts, *widths) if is_stack or lora.experts > 1 else widths
    shape = tuple(parameter.shape)
    return None if shape == wanted else f"{shape} in the base, {wanted} in the adapter"


def _value_faults(model: nn.Module, adapter: Adapter) -> Iterable[tuple[str, str]]:
    """New values and rows that the base has no place for, and parameters in another order."""
    for name, stored in (*adapter.saved.items(), *adapter.originals.items()):
        tensor = find(model, name)
        if tensor is None or tuple(tensor.shape) != stored.shape:
            base = "none" if tensor is None else tuple(tensor.shape)
            yield name, f"{base} in the base, {stored.shape} in the adapter"
    for name, (ids, stored) in adapter.rows.items():
        tensor = find(model, name)
        shape = () if tensor is None else tuple(tensor.shape)
        if (
            len(shape) != 2
            or shape[1] != stored.shape[1]
            or not 0 <= min(ids) <= max(ids) < shape[0]
        ):
            yield name, f"{shape} in the base, rows {min(ids)} to {max(ids)} in the adapter"
    yield from _order_faults(model, adapter)


def _order_faults(model: nn.Module, adapter: Adapter) -> Iterable[tuple[str, str]]:
    """PEFT wraps a module's parameters in the order in which the module holds them.

    The file's depths were read as transformers names experts; the depth of every LoRA is the
    number of ``base_layer`` in its name, and the first parameter has the most.
    """
    for name, lora in adapter.modules.items():
        if lora.kind != "parameter" or find(model, name) is None:
            continue
        module, leaf = owner(model, name)
        order = list(module._parameters)
        path = name.removesuffix(leaf)
        inner = [
            order.index(n.removeprefix(path))
            for n, m in adapter.modules.items()
            if n.startswith(path) and n.removeprefix(path) in order and _depth(m) > _depth(lora)
        ]
        if any(index > order.index(leaf) for index in inner):
            yield name, "wrapped in another order than the base holds its parameters"


def _depth(lora: LoraModule) -> int:
    return lora.A.name.count(".base_layer.")


def _missing(
    model: nn.Module, adapter: Adapter, config: AdapterConfig
) -> Iterable[tuple[str, str]]:
    """What the settings name in this base and the adapter has no weights for."""
    targets, fault = config.targets, "named in the settings, without weights in the adapter"
    for name, module in model.named_modules():
        if targets.is_known and name and targets.match(name) and name not in adapter.modules:
            yield name, fault
        if name and targets.saves(name):
            tensors = (f"{name}.{leaf}" for leaf in module.state_dict())
            yield from ((tensor, fault) for tensor in tensors if tensor not in adapter.saved)
    for name, _ in model.named_parameters():
        if targets.match_parameter(name) and name not in adapter.modules:
            yield name, fault
        if _is_trained_bias(name, adapter, config) and name not in adapter.saved:
            yield name, fault


def _is_trained_bias(name: str, adapter: Adapter, config: AdapterConfig) -> bool:
    module, _, leaf = name.rpartition(".")
    if leaf != "bias" or config.bias == "none":
        return False
    return config.bias == "all" or module in adapter.modules
