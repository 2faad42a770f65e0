"""A start of pure noise that is as far from the base, module by module, as a merge is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mashup._merge.algebra import generator_for
from mashup.checkpoint.adapter import WEIGHTS
from mashup.checkpoint.read import is_whole
from mashup.delta import read_delta
from mashup.model.swap import find
from mashup.model.whole import whole_tensors
from mashup.weights import read_finite

_SEED = 42


def noise_like(model: Any, init: Path, output: Path) -> None:
    """Write a start of the same kind and shapes as ``init`` whose change of the base is random.

    Of a LoRA the product ``s·B·A`` of each module has the Frobenius norm of the merge's, with
    normal A and B; of a whole model each tensor is the base's and normal noise of that norm.
    """
    shutil.copytree(init, output, ignore=shutil.ignore_patterns("*.safetensors*", "mashup.json"))
    if is_whole(init):
        _noisy_model(model, init, output)
    else:
        _noisy_adapter(init, output)


def _noisy_adapter(init: Path, output: Path) -> None:
    delta, stored = read_delta(init), load_file(init / WEIGHTS)
    made: dict[str, Tensor] = dict(stored)
    for name, factors in delta.modules.items():
        left, right = (f"base_model.model.{name}.lora_{half}.weight" for half in "BA")
        for half in (left, right):
            made[half] = torch.randn(stored[half].shape, generator=generator_for(_SEED, half))
        size = factors.scale * float((made[left] @ made[right]).norm())
        made[left] = made[left] * (float(factors.dense().norm()) / size)
    save_file({n: t.to(stored[n].dtype).contiguous() for n, t in made.items()}, output / WEIGHTS)


def _noisy_model(model: Any, init: Path, output: Path) -> None:
    made = {}
    for name, stored in whole_tensors(model, init).items():
        value, own = read_finite(stored), find(model, name).detach().float().cpu()
        noise = torch.randn(own.shape, generator=generator_for(_SEED, name))
        size = float((value.float() - own).norm()) / max(float(noise.norm()), 1e-30)
        made[stored.name] = (own + size * noise).to(value.dtype)
    save_file(made, output / "model.safetensors", metadata={"format": "pt"})
