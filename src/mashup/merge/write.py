"""Write a merged delta as a PEFT folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mashup.checkpoint.adapter import CONFIG, WEIGHTS
from mashup.checkpoint.history import PROMPTS, read_prompts
from mashup.delta import Delta
from mashup.files import read_json, to_json, write_text
from mashup.merge.methods import Merged
from mashup.merge.parents import Parent
from mashup.model import Base

_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("tokenizer.model", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json"),
)


def write_adapter(
    folder: Path, parents: Sequence[Parent], merged: Merged, base: str, loaded: Base | None
) -> None:
    """Weights, settings and tokenizer of a merged adapter, into an empty folder."""
    tensors = adapter_tensors(merged.delta)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    write_text(folder / CONFIG, to_json(_config(parents, merged, base)))
    seen = frozenset().union(*(read_prompts(parent.checkpoint.run) for parent in parents))
    if seen:
        write_text(folder / PROMPTS, "\n".join(sorted(seen)) + "\n")
    if loaded is not None:
        loaded.tokenizer.save_pretrained(folder)
    else:
        _copy_tokenizer(parents, folder)


def adapter_tensors(delta: Delta) -> dict[str, torch.Tensor]:
    """PEFT's tensor names to tensors."""
    return {
        f"base_model.model.{name}.lora_{side}.weight": tensor.contiguous()
        for name, factors in delta.modules.items()
        for side, tensor in (("A", factors.A), ("B", factors.B))
    }


def _config(parents: Sequence[Parent], merged: Merged, base: str) -> dict[str, Any]:
    configs = [read_json(parent.checkpoint.path / CONFIG) for parent in parents]
    modules = merged.delta.modules
    alpha = next(iter(modules.values())).scale * merged.rank
    alphas = {name: f.scale * f.rank for name, f in modules.items()}
    return {
        "peft_type": "LORA",
        "task_type": configs[0].get("task_type") or "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": configs[0].get("revision"),
        "r": merged.rank,
        "lora_alpha": alpha,
        "rank_pattern": {n: f.rank for n, f in modules.items() if f.rank != merged.rank},
        "alpha_pattern": {n: value for n, value in alphas.items() if value != alpha},
        "target_modules": _targets(configs, list(modules)),
        "fan_in_fan_out": merged.delta.fan_in_fan_out,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _targets(configs: Sequence[dict[str, Any]], modules: list[str]) -> list[str]:
    """The union of the parents' suffixes where those name their modules, else full names."""
    filters = ("layers_to_transform", "layers_pattern", "exclude_modules")
    plain = all(
        isinstance(config.get("target_modules"), list)
        and not any(config.get(one) not in (None, []) for one in filters)
        for config in configs
    )
    if not plain:
        return modules
    return sorted({target for config in configs for target in config["target_modules"]})


def _copy_tokenizer(parents: Sequence[Parent], folder: Path) -> None:
    """Tokenizer files of the first parent that has them; parents share their base's tokenizer."""
    for parent in parents:
        source = parent.checkpoint.path
        if (source / "tokenizer_config.json").exists():
            for name in _TOKENIZER_FILES:
                if (source / name).exists():
                    shutil.copyfile(source / name, folder / name)
            return
