"""Put a trainable LoRA on a base, fresh or from an init, computing in the base's precision."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mashup.errors import Problem, UsageError
from mashup.model.quiet import quiet_transformers
from mashup.settings import TrainSettings


class _CastLinear(nn.Linear):
    """A linear layer whose float32 weight is cast to the input's dtype when it is used.

    PEFT casts the activations up instead, which made a step of SmolLM2 in bfloat16 on two
    cores 1.2 times slower (benchmarks/training.py). Weight, gradient and optimizer state
    stay float32.
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.to(input.dtype))


def attach(model: Any, settings: TrainSettings, init: Path | None) -> Any:
    """Wrap ``model`` with a trainable LoRA; ``detach`` gives it back.

    From ``init`` only weights and shape are taken: optimizer, schedule and data order are
    fresh. Without it, PEFT's own initialisation (B = 0) with the seed of ``settings``.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    with quiet_transformers(), _target_errors(settings):
        if init is not None:
            config = LoraConfig.from_pretrained(str(init))
            config.lora_dropout = settings.lora_dropout
            wrapped = PeftModel.from_pretrained(model, str(init), config=config, is_trainable=True)
        else:
            torch.manual_seed(settings.seed)
            config = LoraConfig(
                task_type="CAUSAL_LM",
                r=settings.lora_r,
                lora_alpha=settings.lora_alpha,
                lora_dropout=settings.lora_dropout,
                target_modules=_targets(settings.lora_target_modules),
            )
            wrapped = get_peft_model(model, config)
    _keep_master_weights(wrapped)
    return wrapped


def _targets(text: str) -> str | list[str]:
    """PEFT's target_modules: ``all-linear``, a list of names with commas, or a pattern."""
    names = [name.strip() for name in text.split(",")]
    plain = all(re.fullmatch(r"[\w.]+", name) for name in names)
    return names if plain and text != "all-linear" else text


@contextlib.contextmanager
def _target_errors(settings: TrainSettings) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if "target" not in str(error).lower():
            raise
        found, expected = settings.lora_target_modules, "all-linear, or names of linear layers"
        where, fix = "--lora-target-modules", "separate names with commas: q_proj,v_proj"
        raise UsageError(Problem("no such target modules", where, found, expected, fix)) from error


def detach(wrapped: Any) -> Any:
    """The bare model again, its weights as they were."""
    return wrapped.unload()


def _keep_master_weights(wrapped: Any) -> None:
    from peft.tuners.lora import LoraLayer

    for layer in wrapped.modules():
        if isinstance(layer, LoraLayer):
            layer.cast_input_dtype_enabled = False
            for part in (*layer.lora_A.values(), *layer.lora_B.values()):
                part.float()
                part.__class__ = _CastLinear
