"""float32 masters: weights that are trained in float32 and used in the base's precision.

An update of AdamW is far smaller than a bfloat16 weight can show, so whatever is trained is
kept in float32 with its gradient and optimizer state. PEFT does that for LoRA and for token
rows; modules and biases that are trained as a whole it leaves in the base's precision, where
they hardly move.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _CastLinear(nn.Linear):
    """A linear layer whose float32 weight is cast to the input's dtype when it is used.

    PEFT casts the activations up instead, which made a step of SmolLM2 in bfloat16 on two
    cores 1.2 times slower (benchmarks/training.py). Weight, gradient and optimizer state
    stay float32.
    """

    def forward(self, input: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return F.linear(input, self.weight.to(input.dtype), bias)


def keep_masters(wrapped: Any, undo: contextlib.ExitStack) -> None:
    """Everything that PEFT trains in ``wrapped`` is float32; ``undo`` gets what takes it back."""
    from peft.tuners.lora import LoraLayer

    for layer in wrapped.modules():
        if isinstance(layer, LoraLayer):
            layer.cast_input_dtype_enabled = False
            for part in (*layer.lora_A.values(), *layer.lora_B.values()):
                part.float()
                part.__class__ = _CastLinear
    lower = [(module, lower_precision(module)) for module in wrapped.modules()]
    for module, names in lower:
        if names:
            cast_on_use(module, names, undo)


def lower_precision(module: nn.Module, *, trained: bool = True) -> dict[str, torch.dtype]:
    """Its own parameters below float32, and their dtypes; all of them, or those trained."""
    own = {name: p for name, p in module._parameters.items() if p is not None}
    wanted = {name: p for name, p in own.items() if p.requires_grad or not trained}
    return {name: p.dtype for name, p in wanted.items() if p.dtype.itemsize < 4}


def cast_on_use(
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
