"""Make a base trainable, by a LoRA or as a whole, computing in the base's precision."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mashup._train.masters import keep_masters
from mashup._train.whole import attach_whole, detach_whole
from mashup.checkpoint import Adapter, read_adapter, read_adapter_config
from mashup.errors import Problem, UsageError
from mashup.model.quiet import quiet_transformers
from mashup.model.swap import find, put
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
        return attach_whole(model, init)
    undo = contextlib.ExitStack()
    try:
        with quiet_transformers(), _target_errors(settings):
            wrapped = (
                _fresh(model, settings) if init is None else _from(init, model, settings, undo)
            )
        keep_masters(wrapped, undo)
    except BaseException:
        undo.close()
        raise
    wrapped.mashup_undo = undo
    return wrapped


def _fresh(model: Any, settings: TrainSettings) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(settings.seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=_targets(settings.lora_target_modules),
    )
    return get_peft_model(model, config)


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
        return detach_whole(wrapped)
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
