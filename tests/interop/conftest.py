"""An init made of two unlike parents, and fresh processes that use it without mashup."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from helpers import prompt_rows, write_jsonl
from lora import save_lora, some_ids
from mashup import merge

_QUIET = {  # on the CPU, without a network, and no telemetry, which would wait for one
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "AXOLOTL_DO_NOT_TRACK": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",
}


@dataclass(frozen=True)
class Used:
    """What a fresh process saw: logits by name, and facts of one step of training."""

    logits: dict[str, torch.Tensor]
    facts: dict[str, Any]


@pytest.fixture(scope="session")
def base(tiny_base: Path, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a loud head, so that adapters change its loss by a lot."""
    folder = tmp_path_factory.mktemp("models") / "loud"
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    model.lm_head.weight.data *= 20
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def parents(base: Path, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two LoRAs that differ in rank, scale and modules."""
    root = tmp_path_factory.mktemp("parents")
    one = save_lora(base, root / "a", seed=1, size=4)
    other = {"r": 6, "lora_alpha": 5, "use_rslora": True, "target_modules": ["q_proj", "up_proj"]}
    two = save_lora(base, root / "b", seed=2, size=4, **other)
    for folder in (one, two):
        tokenizer.save_pretrained(folder)
    return [one, two]


@pytest.fixture(scope="session")
def init(parents: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The merge of the parents, an adapter folder. Do not change it."""
    return merge(parents, output=tmp_path_factory.mktemp("init") / "init").path


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of four chats."""

    def chat(row: dict[str, str]) -> list[dict[str, str]]:
        said = zip(("user", "assistant"), row.values(), strict=True)
        return [{"role": role, "content": content} for role, content in said]

    path = tmp_path_factory.mktemp("rows") / "new_task.jsonl"
    return write_jsonl(path, [{"messages": chat(row)} for row in prompt_rows(4)])


@pytest.fixture(scope="session")
def fresh() -> Callable[..., str]:
    """Run a command in a fresh process, away from this package, and give back what it says."""

    def run(command: Sequence[object], *, cwd: Path) -> str:
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | _QUIET
        kept |= {"HF_HOME": str(cwd / "hf"), "MODELSCOPE_CACHE": str(cwd / "modelscope")}
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env=kept,
            timeout=300,
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said[-3000:]
        return said

    return run


@pytest.fixture(scope="session")
def use(
    fresh: Callable[..., str], rows: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], Used]:
    """Use a folder in a fresh process, as ``use_folder.py`` tells."""

    def run(folder: Path) -> Used:
        output = tmp_path_factory.mktemp("used")
        save_file({"ids": some_ids()}, output / "ids.safetensors")
        script = Path(__file__).with_name("use_folder.py")
        command = [sys.executable, "-I", script, folder, output / "ids.safetensors", rows, output]
        fresh(command, cwd=output)
        facts = json.loads((output / "facts.json").read_text())
        return Used(load_file(output / "logits.safetensors"), facts)

    return run
