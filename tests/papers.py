"""The paper's models in little: random weights, the same architectures, templates as theirs are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from seeing import write_seeing_model

_ALTERNATE = (
    "{%- for m in turns -%}"
    "{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('roles must alternate between user and assistant') }}"
    "{%- endif -%}"
)
_GEMMA = (
    _ALTERNATE + "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else 'user') + '\\n' }}"
    "{{ (first if loop.first else '') + m.content | trim + '<end_of_turn>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"
)
#: Gemma-2 refuses a system role.
_REFUSES = (
    "{{ bos_token }}{%- set turns = messages -%}{%- set first = '' -%}"
    "{%- if messages[0].role == 'system' -%}"
    "{{ raise_exception('System role not supported') }}"
    "{%- endif -%}"
)
#: Gemma-3 puts it into the first turn.
_FOLDS = (
    "{{ bos_token }}"
    "{%- if messages[0].role == 'system' -%}"
    "{%- set turns = messages[1:] -%}{%- set first = messages[0].content + '\\n\\n' -%}"
    "{%- else -%}{%- set turns = messages -%}{%- set first = '' -%}{%- endif -%}"
)
_MISTRAL = (
    "{{ bos_token }}{%- set turns = messages -%}" + _ALTERNATE + "{%- if m.role == 'user' -%}"
    "{{ '[INST] ' + m.content + ' [/INST]' }}{%- else -%}{{ ' ' + m.content + eos_token }}"
    "{%- endif -%}{%- endfor -%}"
)
TEMPLATES = {
    "gemma-2-2b": _REFUSES + _GEMMA,
    "gemma-3-1b": _FOLDS + _GEMMA,
    "gemma-3-4b": _FOLDS + _GEMMA,
    "mistral-7b": _MISTRAL,
}
_SPECIAL = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]"]
_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 2048,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "sliding_window": 64,
    "initializer_range": 0.3,  # so that a frozen head of 32 numbers a token can tell tokens apart
}
#: Caps that the logits and the attention of such weights run into.
CAPS = {"final_logit_softcapping": 8.0, "attn_logit_softcapping": 2.0}


def make_tokenizer_of(family: str, texts: Iterable[str]) -> Any:
    """A byte-level tokenizer of 1,000 tokens, made from ``texts``, with a family's template."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=_SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    )
    tokenizer.chat_template = TEMPLATES[family]
    return tokenizer


def write_paper_base(folder: Path, family: str, texts: Iterable[str]) -> Path:
    """A random model of a family of the paper: ``gemma-2-2b``, ``gemma-3-4b``, ..."""
    tokenizer = make_tokenizer_of(family, texts)
    if family == "gemma-3-4b":
        return write_seeing_model(folder, tokenizer, **_SIZES)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _MAKERS[family](_SIZES | {"vocab_size": len(tokenizer)}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


_MAKERS = {
    "gemma-2-2b": lambda sizes: Gemma2ForCausalLM(Gemma2Config(**sizes, **CAPS)),
    "gemma-3-1b": lambda sizes: Gemma3ForCausalLM(Gemma3TextConfig(**sizes)),
    "mistral-7b": lambda sizes: MistralForCausalLM(MistralConfig(**sizes)),
}
