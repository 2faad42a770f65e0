"""Fine-tunes with resized vocabularies: tokens added in any order, by transformers itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def resized(
    base: Path, folder: Path, tokens: Sequence[str], *, seed: int, multiple: int | None = None
) -> Path:
    """A fine-tune of ``base`` with ``tokens`` added: noise on all weights, rows for the tokens."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(list(tokens))
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(seed)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False, pad_to_multiple_of=multiple)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def rows_of(folder: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Token to its rows of the embedding and of the head."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    one, other = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    return {t: (one[n].detach(), other[n].detach()) for t, n in vocabulary.items()}


def logits_by_token(folder: Path, text: str) -> dict[str, torch.Tensor]:
    """Token to its logit after every token of ``text``."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        logits = model(ids).logits[0]
    return {token: logits[:, n] for token, n in tokenizer.get_vocab().items()}
