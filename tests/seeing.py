"""A tiny model that sees, as the Hub holds such models: its file names tensors in an older way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma3Config, Gemma3ForConditionalGeneration


def write_seeing_model(folder: Path, tokenizer: Any, *, seed: int = 0, **text: Any) -> Path:
    """Write a random Gemma-3 that sees: two layers of text, 32 wide, and one of a vision tower.

    Its file has the names that the released models have, of which transformers loads none as
    it stands: ``language_model.model.*``, ``vision_tower.vision_model.*``.

    Args:
        text: more settings of the language model.
    """
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    widths = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
    language = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    seen = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    patches = {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    made = Gemma3Config(
        text_config=language | ids | widths | heads | text,
        vision_config=seen | patches | {"vision_use_head": False},
        mm_tokens_per_image=1,
        image_token_index=len(tokenizer) - 1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        Gemma3ForConditionalGeneration(made).save_pretrained(folder)
    weights = folder / "model.safetensors"
    new, old = "vision_tower.", "vision_tower.vision_model."
    released = {name.replace(new, old): value for name, value in load_file(weights).items()}
    save_file(released, weights, metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)
    return folder
