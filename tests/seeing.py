"""Tiny models that see, as the Hub holds such models: files name tensors in an older way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

FAMILIES = ("gemma3", "qwen2-vl", "smolvlm")
_SEEN = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
_PATCHES = {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}


def write_seeing_model(
    folder: Path, tokenizer: Any, *, family: str = "gemma3", seed: int = 0, **text: Any
) -> Path:
    """Write a random model that sees: two layers of text, 32 wide, and one of a vision tower.

    The file of Gemma-3 has the names that the released models have, of which transformers loads
    none as it stands: ``language_model.model.*``, ``vision_tower.vision_model.*``.

    Args:
        text: more settings of the language model.
    """
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    widths = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
    language = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MAKERS[family](language | ids | widths | heads | text, len(tokenizer))
        model.save_pretrained(folder)
    if family == "gemma3":
        weights = folder / "model.safetensors"
        new, old = "vision_tower.", "vision_tower.vision_model."
        released = {name.replace(new, old): value for name, value in load_file(weights).items()}
        save_file(released, weights, metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)
    return folder


def _gemma3(text: dict[str, Any], size: int) -> Any:
    made = Gemma3Config(
        text_config={"head_dim": 8} | text,
        vision_config=_SEEN | _PATCHES | {"vision_use_head": False},
        mm_tokens_per_image=1,
        image_token_index=size - 1,
    )
    return Gemma3ForConditionalGeneration(made)


def _qwen2_vl(text: dict[str, Any], size: int) -> Any:
    sections = {"type": "mrope", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    seen = {"depth": 1, "embed_dim": 16, "num_heads": 2, "hidden_size": 32, "mlp_ratio": 2}
    made = Qwen2VLConfig(
        text_config={"rope_parameters": sections} | text,
        vision_config=seen | {"spatial_merge_size": 1, "temporal_patch_size": 1},
        image_token_id=size - 1,
        video_token_id=size - 2,
        vision_start_token_id=size - 3,
        vision_end_token_id=size - 4,
    )
    return Qwen2VLForConditionalGeneration(made)


def _smolvlm(text: dict[str, Any], size: int) -> Any:
    made = SmolVLMConfig(
        text_config={"model_type": "llama"} | text,
        vision_config=_SEEN | _PATCHES,
        image_token_id=size - 1,
        pad_token_id=text["pad_token_id"],
        scale_factor=2,
    )
    return SmolVLMForConditionalGeneration(made)


MAKERS = {"gemma3": _gemma3, "qwen2-vl": _qwen2_vl, "smolvlm": _smolvlm}
