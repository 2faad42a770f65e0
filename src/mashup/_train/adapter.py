"""Make a base trainable, by a LoRA or with all its weights, and give it back afterwards.

Trained weights, their gradients and the optimizer's state are float32. An AdamW update is far
smaller than a bfloat16 weight can show. The model computes in the base's precision: trained
weights are cast when they are used, so a run is measured in the precision in which it is saved.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mashup.checkpoint import Adapter, read_adapter, read_adapter_config
from mashup.errors import Problem, UsageError
from mashup.model import read_change
from mashup.model.apply import find, put
from mashup.model.base import quiet_transformers
from mashup.settings import TrainSettings


def attach(model: Any, settings: TrainSettings, init: Path | None) -> Any:
    """Wrap ``model`` with a trainable LoRA, or make all its weights trainable.

    :func:`detach` gives it back.

    From ``init`` only weights and shape are taken: optimizer, schedule and data order are
    fresh. Without it, PEFT's own initialisation (B = 0) with the seed of ``settings``.

    Raises:
        UsageError: target modules that the model does not have; dropout on expert parameters.
        InputError: an init that is no model of this architecture.
    """
    if settings.is_full:
        return _attach_whole(model, init)
    undo = contextlib.ExitStack()
    try:
        with quiet_transformers(), _target_errors(settings):
            wrapped = (
                _fresh(model, settings) if init is None else _from(init, model, settings, undo)
            )
        _keep_masters(wrapped, undo)
    except BaseException:
        undo.close()
        raise
    wrapped.mashup_undo = undo
    return wrapped


def _fresh(model: Any, settings: TrainSettings) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(settings.seed)
    targets = _targets(settings.lora_target_modules)
    if targets == "all-linear":
        targets = _of_language(model) or targets
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=targets,
    )
    return get_peft_model(model, config)


def _of_language(model: Any) -> str | None:
    """The linear layers of the language model of a model that sees, as a pattern; else None.

    Rows of text do not run the vision tower: a LoRA there would stay zero.
    """
    if getattr(model.config, "vision_config", None) is None:
        return None
    decoder = model.get_decoder()
    place = next(name for name, module in model.named_modules() if module is decoder)
    linear = (name for name, module in decoder.named_modules() if isinstance(module, nn.Linear))
    leaves = sorted({name.rpartition(".")[2] for name in linear})
    return rf"{re.escape(place)}\..*\.({'|'.join(leaves)})"


def _from(init: Path, model: Any, settings: TrainSettings, undo: contextlib.ExitStack) -> Any:
    from peft import LoraConfig, PeftModel

    config = LoraConfig.from_pretrained(str(init))
    config.lora_dropout = settings.lora_dropout
    if config.target_parameters and settings.lora_dropout:
        raise UsageError(_no_dropout(settings))
    _keep_written(model, read_adapter(init, read_adapter_config(init)), undo)
    return PeftModel.from_pretrained(model, str(init), config=config, is_trainable=True)


def _no_dropout(settings: TrainSettings) -> Problem:
    found, expected = str(settings.lora_dropout), "0: this init adapts expert parameters themselves"
    fix = "give `lora_dropout` 0"
    return Problem("no dropout on expert parameters", "`lora_dropout`", found, expected, fix)


def _keep_written(model: Any, adapter: Adapter, undo: contextlib.ExitStack) -> None:
    """PEFT loads some values into the base itself and trains them there: let it have copies."""
    for name in {*adapter.saved, *adapter.originals} - (adapter.copied - {*adapter.originals}):
        copy = find(model, name).detach().clone()
        undo.enter_context(put(model, name, copy, copy=False))


def _targets(text: str) -> str | list[str]:
    """PEFT's target_modules: ``all-linear``, a list of names with commas, or a pattern."""
    names = [name.strip() for name in text.split(",")]
    plain = all(re.fullmatch(r"[\w.]+", name) for name in names)
    return names if plain and text != "all-linear" else text


def unmatched_targets(model: nn.Module, settings: TrainSettings) -> list[str]:
    """Names in ``lora_target_modules`` that no module of the base has; PEFT passes over them."""
    names = _targets(settings.lora_target_modules)
    if settings.is_full or isinstance(names, str):
        return []
    modules = [f".{name}" for name, _ in model.named_modules()]
    return [one for one in names if not any(module.endswith(f".{one}") for module in modules)]


@contextlib.contextmanager
def _target_errors(settings: TrainSettings) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if "target" not in str(error).lower():
            raise
        found, expected = settings.lora_target_modules, "all-linear, or names of linear layers"
        where, fix = "`lora_target_modules`", "separate names with commas: q_proj,v_proj"
        raise UsageError(Problem("no such target modules", where, found, expected, fix)) from error


def detach(wrapped: Any) -> Any:
    """The bare model again, its weights as they were."""
    if not hasattr(wrapped, "peft_config"):
        wrapped.mashup_undo.close()
        del wrapped.mashup_undo
        return wrapped
    _unwrap_whole_modules(wrapped.base_model.model)
    model = wrapped.unload()
    wrapped.mashup_undo.close()
    return model


def _unwrap_whole_modules(model: nn.Module) -> None:
    """Put modules back that PEFT trains as a whole; its own ``unload`` leaves the trained copy."""
    from peft.utils.other import ModulesToSaveWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.original_module)


def _attach_whole(model: Any, init: Path | None) -> Any:
    """``model`` itself with all weights trainable, from its own values or from an init's.

    Raises:
        InputError: an init that is no model of this architecture.
    """
    undo = contextlib.ExitStack()
    try:
        places = [(module, _lower_precision(module, trained=False)) for module in model.modules()]
        for parameter in model.parameters():
            undo.callback(_put_back, parameter, parameter.data, parameter.requires_grad)
            parameter.data = parameter.data.to(torch.float32, copy=True)
            parameter.requires_grad_(True)
        for module, names in places:
            if names:
                _cast_on_use(module, names, undo)
        if init:
            fill(model, init)
    except BaseException:
        undo.close()
        raise
    model.mashup_undo = undo
    return model


def _put_back(parameter: nn.Parameter, data: Tensor, trained: bool) -> None:
    parameter.data, parameter.grad = data, None
    parameter.requires_grad_(trained)


def fill(model: Any, folder: Path) -> None:
    """Values of a full checkpoint for a model that trains.

    Raises:
        InputError: no model of this architecture.
    """
    for name, value in read_change(model, folder).saved.items():
        find(model, name).data.copy_(value)


def save_whole(model: Any, folder: Path, dtype: torch.dtype) -> None:
    """Write the model in the precision that it computes in, cast once from float32."""
    with contextlib.ExitStack() as masters:
        for parameter in model.parameters():
            masters.callback(setattr, parameter, "data", parameter.data)
            parameter.data = parameter.data.to(dtype)
        model.save_pretrained(folder)


class _CastLinear(nn.Linear):
    """A linear layer whose float32 weight is cast to the input's dtype when it is used.

    PEFT casts the activations up instead, which made a step of SmolLM2 in bfloat16 on two
    cores 1.2 times slower (benchmarks/training.py). Weight, gradient and optimizer state
    stay float32.
    """

    def forward(self, input: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return F.linear(input, self.weight.to(input.dtype), bias)


def _keep_masters(wrapped: Any, undo: contextlib.ExitStack) -> None:
    """Everything that PEFT trains in ``wrapped`` is float32; ``undo`` gets what takes it back."""
    from peft.tuners.lora import LoraLayer

    for layer in wrapped.modules():
        if isinstance(layer, LoraLayer):
            layer.cast_input_dtype_enabled = False
            for part in (*layer.lora_A.values(), *layer.lora_B.values()):
                part.float()
                part.__class__ = _CastLinear
    lower = [(module, _lower_precision(module)) for module in wrapped.modules()]
    for module, names in lower:
        if names:
            _cast_on_use(module, names, undo)


def _lower_precision(module: nn.Module, *, trained: bool = True) -> dict[str, torch.dtype]:
    """Its own parameters below float32, and their dtypes; all of them, or those trained."""
    own = {name: p for name, p in module._parameters.items() if p is not None}
    wanted = {name: p for name, p in own.items() if p.requires_grad or not trained}
    return {name: p.dtype for name, p in wanted.items() if p.dtype.itemsize < 4}


def _cast_on_use(
    module: nn.Module, names: dict[str, torch.dtype], undo: contextlib.ExitStack
) -> None:
    """Float32 parameters that are of their old dtype while the module runs.

    Works for any module, whatever it does with its parameters; gradients flow through the cast.
    """
    table: Any = module._parameters
    masters = {name: table[name] for name in names}
    for master in masters.values():
        master.data = master.data.float()

    def begin(*_: Any) -> None:
        table.update({name: masters[name].to(dtype) for name, dtype in names.items()})

    def end(*_: Any) -> None:
        table.update(masters)

    undo.callback(module.register_forward_pre_hook(begin).remove)
    undo.callback(module.register_forward_hook(end, always_call=True).remove)
