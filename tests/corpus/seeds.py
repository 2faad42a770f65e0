"""Good checkpoints, tiny and in memory: what the corpus spoils, and what it merges with.

A folder is a dict of names to bytes, or to something that is no plain file. No torch, no PEFT,
no transformers: thousands of them are written a minute.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

BASE = "owner/tiny"
ADAPTER, CONFIG, INDEX = "adapter_config.json", "config.json", "model.safetensors.index.json"
LORA, MODEL, TOKENIZER = "adapter_model.safetensors", "model.safetensors", "tokenizer.json"
HIDDEN, VOCAB = 8, 12
WIDTHS = {"model.layers.0.self_attn.q_proj": (8, 8), "model.layers.0.mlp.up_proj": (8, 16)}


@dataclass(frozen=True)
class Special:
    """What is no plain file: a link to ``target``, a folder, a pipe, or ``target`` empty bytes."""

    kind: str
    target: str = ""


Files = Mapping[str, bytes | Special]


def write(files: Files, folder: Path) -> Path:
    """Make ``folder`` hold these files and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content.kind == "link":
            path.symlink_to(content.target)
        elif content.kind == "folder":
            path.mkdir()
        elif content.kind == "sparse":
            _sparse(path, int(content.target))
        else:
            os.mkfifo(path)
    return folder


def _sparse(path: Path, size: int) -> None:
    """A file without blocks, larger than what this process may write otherwise."""
    path.touch()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    try:
        os.truncate(path, size)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def document(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def _history(task: str) -> dict[str, bytes]:
    log = [{"step": 5, "loss": 1.5}, {"step": 10, "eval_loss": 1.25}]
    state = {"best_model_checkpoint": "run/checkpoint-10", "best_global_step": 10}
    head = f"---\nbase_model: {BASE}\nlicense: mit\nlanguage:\n- en\n---\n# A card\n"
    return {
        "mashup.json": document({"task": {"name": task}, "metrics": {"eval_loss": 1.25}}),
        "trainer_state.json": document(state | {"log_history": log}),
        "all_results.json": document({"eval_loss": 1.25}),
        "train_prompts.txt": b"0011aabb\n2233ccdd\n",
        "README.md": head.encode(),
        "tokenizer_config.json": document({"tokenizer_class": "PreTrainedTokenizerFast"}),
        "generation_config.json": document({"eos_token_id": VOCAB - 1}),
        "chat_template.jinja": b"{% for m in messages %}{{ m['content'] }}{% endfor %}",
        TOKENIZER: tokenizer([f"t{n}" for n in range(VOCAB - 1)]),
    }


def tokenizer(tokens: list[str]) -> bytes:
    """A ``tokenizer.json`` of whole words, with one added token."""
    added = {"id": len(tokens), "content": "<end>", "single_word": False, "lstrip": False}
    added |= {"rstrip": False, "normalized": False, "special": True}
    model = {"type": "WordLevel", "vocab": {t: n for n, t in enumerate(tokens)}, "unk_token": "t0"}
    return document({"version": "1.0", "added_tokens": [added], "model": model})


def lora(seed: int = 0) -> Files:
    """A PEFT LoRA of two linear layers, with patterns for rank and alpha."""
    random = np.random.default_rng(seed)
    ranks = {"up_proj": 3}
    tensors = {}
    for module, (d_in, d_out) in WIDTHS.items():
        rank = ranks.get(module.rsplit(".", 1)[-1], 2)
        key = f"base_model.model.{module}"
        tensors[f"{key}.lora_A.weight"] = random.standard_normal((rank, d_in), np.float32)
        tensors[f"{key}.lora_B.weight"] = random.standard_normal((d_out, rank), np.float32)
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": BASE,
        "revision": None,
        "r": 2,
        "lora_alpha": 4,
        "lora_dropout": 0.05,
        "use_rslora": False,
        "fan_in_fan_out": False,
        "bias": "none",
        "target_modules": ["q_proj", "up_proj"],
        "rank_pattern": ranks,
        "alpha_pattern": {"up_proj": 5},
        "init_lora_weights": True,
        "inference_mode": True,
    }
    data = save(tensors, metadata={"format": "pt"})
    return {ADAPTER: document(settings), LORA: data, **_history("trec")}


def tensors_of(seed: int, *, tied: bool) -> dict[str, np.ndarray]:
    """Weights of a Llama of one layer."""
    random = np.random.default_rng(seed)
    h, layer = HIDDEN, "model.layers.0"
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, h)}
    shapes |= {f"{layer}.self_attn.{n}_proj.weight": (h, h) for n in "qo"}
    shapes |= {f"{layer}.self_attn.{n}_proj.weight": (h // 2, h) for n in "kv"}
    shapes |= {f"{layer}.mlp.{n}_proj.weight": (2 * h, h) for n in ("gate", "up")}
    shapes |= {f"{layer}.mlp.down_proj.weight": (h, 2 * h), "model.norm.weight": (h,)}
    shapes |= {f"{layer}.{n}_layernorm.weight": (h,) for n in ("input", "post_attention")}
    shapes |= {} if tied else {"lm_head.weight": (VOCAB, h)}
    return {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def model_config(*, tied: bool) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "_name_or_path": BASE,
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "vocab_size": VOCAB,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 5000.0,
        "max_position_embeddings": 64,
        "attention_bias": False,
        "tie_word_embeddings": tied,
        "torch_dtype": "float32",
        "eos_token_id": 11,
        "use_cache": True,
    }


def single(seed: int = 0) -> Files:
    """A full checkpoint in one file."""
    data = save(tensors_of(seed, tied=False), metadata={"format": "pt"})
    return {CONFIG: document(model_config(tied=False)), MODEL: data, **_history("piqa")}


def sharded(seed: int = 0, *, tied: bool = False) -> Files:
    """A full checkpoint in three files with an index."""
    tensors = list(tensors_of(seed, tied=tied).items())
    files: dict[str, bytes | Special] = {CONFIG: document(model_config(tied=tied))}
    placed = {}
    for number in range(3):
        name = f"model-{number + 1:05d}-of-00003.safetensors"
        part = dict(tensors[number::3])
        files[name] = save(part, metadata={"format": "pt"})
        placed |= dict.fromkeys(part, name)
    total = sum(tensor.nbytes for _, tensor in tensors)
    index = {"metadata": {"total_size": total}, "weight_map": placed}
    return files | {INDEX: document(index)} | _history("boolq")


def tied_shards(seed: int = 0) -> Files:
    return sharded(seed, tied=True)


SEEDS = {"lora": lora, "single": single, "sharded": sharded, "tied": tied_shards}
