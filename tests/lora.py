"""Real LoRAs on the tiny model, made with PEFT itself, and logits to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM


def save_lora(base: Path, folder: Path, *, seed: int = 0, size: float = 0.3, **config: Any) -> Path:
    """A LoRA of PEFT with random A and B, saved by PEFT."""
    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "v_proj", "down_proj"]}
    model = AutoModelForCausalLM.from_pretrained(base)
    wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **(settings | config)))
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data = size * torch.randn_like(parameter)
    wrapped.save_pretrained(folder)
    return folder


def peft_logits(base: Path, folder: Path, ids: torch.Tensor) -> torch.Tensor:
    """Logits of the base with the adapter as plain PEFT loads it."""
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        return PeftModel.from_pretrained(model, folder).eval()(ids).logits


def some_ids(vocabulary: int = 300, seed: int = 3) -> torch.Tensor:
    """Token ids ``(3, 11)``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, vocabulary, (3, 11), generator=generator)


def mean_logits(base: Path, folders: list[Path], ids: torch.Tensor) -> torch.Tensor:
    """Logits with the mean of the adapters' deltas: PEFT merges each, the models are averaged."""
    model = AutoModelForCausalLM.from_pretrained(base)
    states = []
    for folder in folders:
        wrapped = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
        states.append(wrapped.merge_and_unload().state_dict())
    if states:
        mean = {k: sum(state[k] for state in states) / len(states) for k in states[0]}
        model.load_state_dict(mean)
    with torch.no_grad():
        return model.eval()(ids).logits
