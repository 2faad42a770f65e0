"""Train all weights of a base, and give it back its own afterwards.

Weights, gradients and optimizer state are float32 (:mod:`mashup._train.masters`); the model
computes in the base's precision, so what is measured during training is what is saved.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mashup._train.masters import cast_on_use, lower_precision
from mashup.model import read_change
from mashup.model.swap import find


def attach_whole(model: Any, init: Path | None) -> Any:
    """``model`` itself with all weights trainable, from its own values or from an init's.

    Raises:
        InputError: an init that is no model of this architecture.
    """
    undo = contextlib.ExitStack()
    try:
        places = [(module, lower_precision(module, trained=False)) for module in model.modules()]
        for parameter in model.parameters():
            undo.callback(_put_back, parameter, parameter.data, parameter.requires_grad)
            parameter.data = parameter.data.to(torch.float32, copy=True)
            parameter.requires_grad_(True)
        for module, names in places:
            if names:
                cast_on_use(module, names, undo)
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
    """Values of a whole model's folder for a model that trains.

    Raises:
        InputError: no model of this architecture.
    """
    for name, value in read_change(model, folder).saved.items():
        find(model, name).data.copy_(value)


def detach_whole(model: Any) -> Any:
    """The base again, its weights as they were."""
    model.mashup_undo.close()
    del model.mashup_undo
    return model


def save_whole(model: Any, folder: Path, dtype: torch.dtype) -> None:
    """Write the model in the precision that it computes in, cast once from float32."""
    with contextlib.ExitStack() as masters:
        for parameter in model.parameters():
            masters.callback(setattr, parameter, "data", parameter.data)
            parameter.data = parameter.data.to(dtype)
        model.save_pretrained(folder)
