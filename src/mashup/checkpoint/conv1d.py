"""GPT-2's Conv1D keeps weights as ``(d_in, d_out)``; a LoRA on it does not always say so.

PEFT sets ``fan_in_fan_out`` by the last kind of module that it meets, so an adapter of ``c_proj``
and ``lm_head`` says False. Shapes that are not square show that; square ones do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mashup.checkpoint.modules import LoraModule

_MODELS = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
_MODULES = ("c_attn", "q_attn", "c_proj", "c_fc")


def turned(modules: Mapping[str, LoraModule], config: Mapping[str, Any]) -> dict[str, LoraModule]:
    """The modules, square ones laid out as the model of ``config`` stores them."""
    if config.get("model_type") not in _MODELS:
        return dict(modules)
    return {name: _turned(module) for name, module in modules.items()}


def _turned(module: LoraModule) -> LoraModule:
    if module.kind != "linear" or module.d_in != module.d_out:
        return module
    is_conv = module.name.rpartition(".")[2] in _MODULES
    return replace(module, layout="transposed" if is_conv else "linear")
