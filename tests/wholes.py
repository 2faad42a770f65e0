"""Full checkpoints for merges: relatives of a base, LoRAs put into their base, their values."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

Tensors = dict[str, Tensor]


def tensors_of(folder: Path) -> Tensors:
    """All tensors of a model or adapter, of one file or of several."""
    files = sorted(folder.glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def write_whole(folder: Path, tensors: Tensors, like: Path) -> Path:
    """A model of ``tensors`` with the config and tokenizer of ``like``."""
    shutil.copytree(like, folder, ignore=shutil.ignore_patterns("*.safetensors*"))
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "model.safetensors")
    return folder


def relative_of(
    base: Path,
    folder: Path,
    *,
    seed: int,
    size: float = 0.02,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """The base with noise on every tensor: what a full fine-tuning might have left."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: (tensor + size * torch.randn(tensor.shape, generator=generator)).to(dtype)
        for name, tensor in tensors_of(base).items()
    }
    return write_whole(folder, tensors, base)


def materialised(base: Path, adapter: Path, folder: Path) -> Path:
    """The base with a LoRA merged into its weights, by PEFT."""
    model = AutoModelForCausalLM.from_pretrained(base)
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    merged.save_pretrained(folder)
    return folder


def same_bits(one: Tensors, other: Tensors) -> bool:
    """Whether both hold the same tensors, NaN and the sign of zero included."""
    return one.keys() == other.keys() and all(
        one[n].dtype == other[n].dtype
        and torch.equal(one[n].flatten().view(torch.uint8), other[n].flatten().view(torch.uint8))
        for n in one
    )


def distance(found: Tensors, expected: Tensors, base: Tensors | None = None) -> float:
    """Frobenius distance over all tensors, relative to ``expected`` (less ``base``)."""
    assert found.keys() == expected.keys()
    zero = {name: torch.zeros(()) for name in expected}
    origin = base or zero
    error = sum(float((found[n].double() - expected[n].double()).square().sum()) for n in found)
    whole = sum(float((expected[n].double() - origin[n].double()).square().sum()) for n in found)
    return (error / whole) ** 0.5
