"""All additive kinds of PEFT's LoRA, on tiny bases, made and saved by PEFT itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

import seeing
from mashup.model.base import auto_class

_SIZES = {
    "vocab_size": 320,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_EXPERTS = {"num_local_experts": 3, "num_experts_per_tok": 2}
_MANY_EXPERTS = {
    "num_experts": 12,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "head_dim": 8,
    "mlp_only_layers": [1],
}


def write_base(folder: Path, family: str, **config: Any) -> Path:
    """A random tiny model of a family: ``llama``, ``tied``, ``biased``, ``gemma``, ..."""
    sizes = _SIZES | {"intermediate_size": 48} | config
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = _MAKERS[family](sizes)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # transformers starts them at zero
                parameter.data = 0.3 * torch.randn_like(parameter)
        model.save_pretrained(folder)
    return folder


def load(folder: Path) -> Any:
    """The model as plain transformers loads it, ready to be evaluated."""
    return auto_class(AutoConfig.from_pretrained(folder)).from_pretrained(folder).eval()


def _gpt2(sizes: dict[str, Any]) -> Any:
    small = GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=320, n_positions=128)
    return GPT2LMHeadModel(small)


_MAKERS = {
    "llama": lambda s: LlamaForCausalLM(LlamaConfig(**s)),
    "tied": lambda s: LlamaForCausalLM(LlamaConfig(**s, tie_word_embeddings=True)),
    "biased": lambda s: LlamaForCausalLM(LlamaConfig(**s, attention_bias=True)),
    "gemma": lambda s: Gemma3ForCausalLM(Gemma3TextConfig(**s, head_dim=8)),
    "gemma2": lambda s: Gemma2ForCausalLM(Gemma2Config(**s, head_dim=8)),
    "mistral": lambda s: MistralForCausalLM(MistralConfig(**s)),
    "gpt2": _gpt2,
    "mixtral": lambda s: MixtralForCausalLM(MixtralConfig(**s, **_EXPERTS)),
    "qwen3-moe": lambda s: Qwen3MoeForCausalLM(Qwen3MoeConfig(**s, **_MANY_EXPERTS)),
    **{name: lambda s, make=make: make(s, s["vocab_size"]) for name, make in seeing.MAKERS.items()},
    "gpt-oss": lambda s: GptOssForCausalLM(GptOssConfig(**s, **_EXPERTS, head_dim=8)),
}

#: Name of a kind to its family of bases and what makes it in PEFT's settings.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "embedding": ("llama", {"target_modules": ["embed_tokens", "q_proj"]}),
    "embedding and head": ("llama", {"target_modules": ["embed_tokens", "lm_head"]}),
    "embedding, tied": ("tied", {"target_modules": ["embed_tokens", "q_proj"]}),
    "head, tied": ("tied", {"target_modules": ["lm_head", "q_proj"]}),
    "embedding, tying ensured": (
        "tied",
        {"target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True},
    ),
    "embedding, scaled by the model": ("gemma", {"target_modules": ["embed_tokens", "q_proj"]}),
    "embedding, rsLoRA": ("llama", {"target_modules": ["embed_tokens"], "use_rslora": True}),
    "embedding, GPT-2": ("gpt2", {"target_modules": ["wte", "c_attn"], "fan_in_fan_out": True}),
    "saved modules": ("llama", {"modules_to_save": ["lm_head", "norm"]}),
    "saved embedding, tied": ("tied", {"modules_to_save": ["embed_tokens"]}),
    "saved head, tied": ("tied", {"modules_to_save": ["lm_head"]}),
    "saved embedding, tying ensured": (
        "tied",
        {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    ),
    "saved module of many": ("llama", {"modules_to_save": ["layers.1.mlp"]}),
    "all biases": ("biased", {"bias": "all"}),
    "biases of LoRA": ("biased", {"bias": "lora_only"}),
    "all biases, GPT-2": (
        "gpt2",
        {"target_modules": ["c_attn"], "bias": "all", "fan_in_fan_out": True},
    ),
    "all biases, saved modules": (
        "gpt2",
        {
            "target_modules": ["c_attn"],
            "bias": "all",
            "fan_in_fan_out": True,
            "modules_to_save": ["ln_f"],
        },
    ),
    "bias of B": ("biased", {"lora_bias": True}),
    "bias of B on a base without": ("llama", {"lora_bias": True, "lora_alpha": 8}),
    "token rows": ("llama", {"trainable_token_indices": [3, 7, 300]}),
    "token rows, tied": ("tied", {"trainable_token_indices": [3, 7, 300]}),
    "token rows, tied, of the head": ("tied", {"trainable_token_indices": {"lm_head": [5, 3]}}),
    "token rows, tied, apart": (
        "tied",
        {"trainable_token_indices": {"embed_tokens": [3, 7], "lm_head": [5, 3]}},
    ),
    "token rows, scaled by the model": ("gemma", {"trainable_token_indices": [3, 7]}),
    "experts": (
        "mixtral",
        {"target_parameters": ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"]},
    ),
    "experts, one parameter": ("mixtral", {"target_parameters": ["experts.down_proj"]}),
    "experts and router": (
        "mixtral",
        {
            "target_modules": [],
            "target_parameters": ["gate_up_proj", "down_proj", "gate.weight"],
            "rank_pattern": {"experts.gate_up_proj": 2},
            "alpha_pattern": {"experts.down_proj": 5},
        },
    ),
    "experts, names of older transformers": (
        "mixtral",
        {"target_modules": ["w1", "w2", "w3", "q_proj"]},
    ),
    "experts, stored transposed": (
        "gpt-oss",
        {"target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
    ),
    "everything": (
        "mixtral",
        {
            "target_modules": ["embed_tokens", "q_proj"],
            "target_parameters": ["experts.gate_up_proj"],
            "modules_to_save": ["lm_head"],
            "use_rslora": True,
        },
    ),
}


def save_kind(base: Path, folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """A LoRA of PEFT, everything that it trains moved at random, saved by PEFT."""
    settings = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"]} | config
    generator = torch.Generator().manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tied weights, saved embeddings, missing biases
        model = AutoModelForCausalLM.from_pretrained(base)
        torch.manual_seed(seed)  # of the A that PEFT draws
        wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
        for parameter in trained(wrapped):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.add_(0.2 * noise)  # in place: tied adapters share their memory
        wrapped.save_pretrained(folder)
    return folder


def trained(model: Any) -> Iterator[torch.Tensor]:
    """Parameters with gradients."""
    return (p for p in model.parameters() if p.requires_grad)


def load_kind(base: Path, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The base with the adapter as plain PEFT loads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
        return PeftModel.from_pretrained(model, folder).eval()
