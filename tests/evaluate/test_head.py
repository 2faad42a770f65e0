"""The head at answer positions gives the same numbers as the whole forward pass."""

import pytest
import torch
from transformers import AutoModelForCausalLM as Auto
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    Qwen2Config,
)

from mashup.evaluate.head import head_only_at

_SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 64,
}
_CONFIGS = {
    "llama": LlamaConfig(**_SMALL),
    "qwen2": Qwen2Config(**_SMALL),
    "gemma2 (soft-capped logits)": Gemma2Config(**_SMALL, final_logit_softcapping=5.0),
    "gemma3": Gemma3TextConfig(**_SMALL),
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=64),
}


@pytest.mark.parametrize("config", _CONFIGS.values(), ids=_CONFIGS.keys())
def test_logits_at_positions_are_those_of_the_whole_pass(config):
    torch.manual_seed(0)
    model = Auto.from_config(config).eval()
    ids = torch.randint(0, 64, (3, 9))
    positions = torch.rand(3, 9) < 0.3
    positions[0, 2] = True
    with torch.no_grad():
        whole = model(ids).logits
        with head_only_at(model, positions):
            cut = model(ids).logits
        after = model(ids).logits
    torch.testing.assert_close(cut[0], whole[positions])
    assert torch.equal(after, whole)
