"""Find mergekit, make models for it, and ask it for merges."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

RUNNER = Path(__file__).with_name("run_mergekit.py")
ROOT = Path(__file__).parents[2]
_SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
#: Name of a family to what makes its tiny model.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "tie_word_embeddings": False},
    "gemma3": {"model_type": "gemma3_text", "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral", "tie_word_embeddings": False},
}


def find_mergekit() -> Path | None:
    """A Python that has mergekit, named by ``MASHUP_MERGEKIT`` or made by ``make oracles``."""
    given = os.environ.get("MASHUP_MERGEKIT")
    found = Path(given) if given else ROOT / ".oracles/bin/python"
    return found if found.exists() else None


def write_family(family: str, folder: Path) -> Path:
    """A random model of a family in float32, its norms no longer constant."""
    settings = {**_SIZES, **FAMILIES[family], "pad_token_id": 0, "bos_token_id": 1}
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    with torch.random.fork_rng():
        torch.manual_seed(list(FAMILIES).index(family))
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter) * (parameter.dim() == 1)
        model.save_pretrained(folder)
    return folder


def case(
    method: str,
    models: Sequence[Path],
    output: Path,
    *,
    base: Path | None = None,
    each: Sequence[Mapping[str, Any]] = (),
    seed: int = 1234,
    dtype: str | None = "float32",
    out_dtype: str | None = None,
    **parameters: Any,
) -> dict[str, Any]:
    """One merge for mergekit: ``each`` holds parameters of each model, the rest are of all."""
    own = each or [{} for _ in models]
    config: dict[str, Any] = {
        "merge_method": method,
        "models": [
            {"model": str(path), "parameters": dict(values)}
            for path, values in zip(models, own, strict=True)
        ],
        "parameters": parameters,
    }
    optional = {"base_model": base and str(base), "dtype": dtype, "out_dtype": out_dtype}
    config |= {name: value for name, value in optional.items() if value is not None}
    return {"config": config, "output": str(output), "seed": seed}


def run_mergekit(python: Path, cases: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Make all merges in one process.

    Raises:
        RuntimeError: mergekit failed; its own words.
    """
    file = folder / "cases.json"
    file.write_text(json.dumps(list(cases)))
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, RUNNER, file], env=clean, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"mergekit: {done.stderr[-2000:]}")
