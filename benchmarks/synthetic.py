"""Synthetic checkpoints of the shapes of real ones, for timing merges."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from mashup._merge.shards import open_shards, plan_shards
from mashup.checkpoint.safetensors import TensorInfo

_HIDDEN, _INNER, _VOCABULARY = 2048, 8192, 32768
_LAYER = {  # tensor of a Llama layer -> shape
    "self_attn.q_proj.weight": (_HIDDEN, _HIDDEN),
    "self_attn.k_proj.weight": (_HIDDEN // 4, _HIDDEN),
    "self_attn.v_proj.weight": (_HIDDEN // 4, _HIDDEN),
    "self_attn.o_proj.weight": (_HIDDEN, _HIDDEN),
    "mlp.gate_proj.weight": (_INNER, _HIDDEN),
    "mlp.up_proj.weight": (_INNER, _HIDDEN),
    "mlp.down_proj.weight": (_HIDDEN, _INNER),
    "input_layernorm.weight": (_HIDDEN,),
    "post_attention_layernorm.weight": (_HIDDEN,),
}


def write_model(folder: Path, gib: float, seed: int) -> int:
    """A bfloat16 Llama of about ``gib`` GiB; returns the bytes of its weights.

    Numbers come from one random block that is written again and again: what they are does not
    matter to the time that it takes to add them.
    """
    infos = {name: TensorInfo("BF16", shape) for name, shape in _shapes(gib)}
    folder.mkdir(parents=True)
    block = torch.randn(1 << 22, generator=torch.Generator().manual_seed(seed)).bfloat16()
    shards = plan_shards(infos)
    with open_shards(folder, shards) as writer:
        for name, info in infos.items():
            rows = info.shape[0]
            width = info.count // rows
            step = max(1, len(block) // width)
            for start in range(0, rows, step):
                count = min(step, rows - start)
                writer.write(name, start, block[: count * width])
    layers = sum(name.endswith("input_layernorm.weight") for name in infos)
    (folder / "config.json").write_text(json.dumps(_config(layers)))
    return sum(info.bytes for info in infos.values())


def _shapes(gib: float) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (_VOCABULARY, _HIDDEN)
    layer = 2 * sum(torch.Size(shape).numel() for shape in _LAYER.values())
    for number in range(max(1, round((gib * 2**30 - 4 * _VOCABULARY * _HIDDEN) / layer))):
        for name, shape in _LAYER.items():
            yield f"model.layers.{number}.{name}", shape
    yield "model.norm.weight", (_HIDDEN,)
    yield "lm_head.weight", (_VOCABULARY, _HIDDEN)


def _config(layers: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": _HIDDEN,
        "intermediate_size": _INNER,
        "num_hidden_layers": layers,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "vocab_size": _VOCABULARY,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
    }


def write_lora(folder: Path, width: int, layers: int, rank: int, seed: int) -> None:
    """A LoRA of ``rank`` on the four ``width × width`` attention projections of every layer."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name in lora_modules(layers):
        key = f"base_model.model.{name}"
        tensors[f"{key}.lora_A.weight"] = torch.randn(rank, width, generator=generator) / width**0.5
        tensors[f"{key}.lora_B.weight"] = torch.randn(width, rank, generator=generator) * 0.01
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "synthetic",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))


def lora_modules(layers: int) -> list[str]:
    """Names of the adapted modules."""
    parts = ("q_proj", "k_proj", "v_proj", "o_proj")
    return [f"model.layers.{n}.self_attn.{part}" for n in range(layers) for part in parts]
