"""GPT-2's Conv1D keeps weights as ``(d_in, d_out)``; a LoRA on it does not always say so.

PEFT sets ``fan_in_fan_out`` by the last kind of module that it meets, so an adapter of ``c_proj``
and ``lm_head`` says False. The names of the modules say it, in the models that have Conv1D.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mashup.checkpoint.modules import LoraModule

_MODELS = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
_MODULES = ("c_attn", "q_attn", "c_proj", "c_fc")


def is_conv1d(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a module of the model of ``config`` is a Conv1D."""
    return config.get("model_type") in _MODELS and name.rpartition(".")[2] in _MODULES


def turned(modules: Mapping[str, LoraModule], config: Mapping[str, Any]) -> dict[str, LoraModule]:
    """The modules, laid out as the model of ``config`` stores them."""
    if config.get("model_type") not in _MODELS:
        return dict(modules)
    return {name: _turned(module, config) for name, module in modules.items()}


def _turned(module: LoraModule, config: Mapping[str, Any]) -> LoraModule:
    if module.kind != "linear":
        return module
    is_conv = is_conv1d(module.name, config)
    return replace(module, layout="transposed" if is_conv else "linear")
