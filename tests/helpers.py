"""Small real things that tests are made of: adapters, tokenizers, models, datasets, a full disk."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from mashup.errors import InputError, Problem
from mashup.progress import Bar, Progress

#: The eight benchmarks' real rows, which lie beside the repository; tests on them are skipped
#: where they do not.
BENCHMARKS = Path(__file__).parents[2] / "shared" / "data" / "benchmarks"
needs_benchmarks = pytest.mark.skipif(
    not BENCHMARKS.is_dir(), reason=f"no benchmark data in {BENCHMARKS}"
)
Q_PROJ = "model.layers.0.self_attn.q_proj"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_CORPUS = ["Is this good or bad? It is good. " * 4, "Question: what is it? Answer: yes\n\n" * 4]


def damage_a_page(path):
    """A page of an SQLite file that holds no data."""
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    path.write_bytes(content)


def make_read_only(path):
    """Another write version of the file format: SQLite only reads what it does not know."""
    content = bytearray(path.read_bytes())
    content[18] = 9
    path.write_bytes(content)


def write_json(path: Path, value: Any) -> Path:
    """Write ``value`` as JSON, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def settle() -> None:
    """Wait until what was just written is old enough to be remembered by its files' times."""
    time.sleep(0.03)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write one JSON object a line, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def prompt_rows(count: int, ending: str = "") -> list[dict[str, str]]:
    """Rows with a prompt of their own each, and a completion; another ending is another task."""
    return [
        {"prompt": f"Is {n} even?{ending}", "completion": "no" if n % 2 else "yes"}
        for n in range(count)
    ]


def write_adapter(
    folder: Path,
    *,
    base: str = "owner/tiny",
    rank: int = 4,
    alpha: float = 8,
    modules: Mapping[str, tuple[int, int]] | None = None,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Write a PEFT LoRA folder with random weights, without a model.

    Args:
        modules: module name to ``(d_in, d_out)``; one ``q_proj`` of 16 by 16 by default.
        config: more of ``adapter_config.json``; a ``rank_pattern`` of name endings is obeyed.
    """
    random = np.random.default_rng(seed)
    ranks = config.get("rank_pattern", {})
    tensors = {}
    for name, (d_in, d_out) in (modules or {Q_PROJ: (16, 16)}).items():
        r = next((r for ending, r in ranks.items() if name.endswith(ending)), rank)
        key = f"base_model.model.{name}"
        tensors[f"{key}.lora_A.weight"] = random.standard_normal((r, d_in), np.float32)
        tensors[f"{key}.lora_B.weight"] = random.standard_normal((d_out, r), np.float32)
    settings = {"peft_type": "LORA", "base_model_name_or_path": base, "r": rank}
    write_json(folder / "adapter_config.json", settings | {"lora_alpha": alpha} | config)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def write_full(folder: Path) -> Path:
    """Write what stands for a full checkpoint: a config and a weights file."""
    write_json(folder / "config.json", {"model_type": "llama"})
    save_file({"model.norm.weight": np.ones(16, np.float32)}, folder / "model.safetensors")
    return folder


def make_tokenizer(*, chat: bool = True) -> Any:
    """A byte-level BPE tokenizer of some 300 tokens that takes any text; ChatML when ``chat``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|im_start|>", "<|im_end|>", "<|end|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(_CORPUS, trainer)
    end = "<|im_end|>" if chat else "<|end|>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=end, pad_token="<|pad|>", model_max_length=512
    )
    tokenizer.chat_template = CHATML if chat else None
    return tokenizer


def write_tiny_model(
    folder: Path, tokenizer: Any, *, seed: int = 0, tied: bool = False, **config: Any
) -> Path:
    """Write a random Llama of two layers, 32 wide, with its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    made = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=tied,
        **config,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(made).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def assert_problem(problem: Problem | None, what: str, *, where: str = "", found: str = "") -> None:
    """It is this problem, and it tells the user the place and a fix."""
    assert problem is not None
    assert problem.what == what
    assert problem.where
    assert where in problem.where
    assert found in problem.found
    assert problem.fix


@contextlib.contextmanager
def refused(
    what: str, *, where: str = "", found: str = ""
) -> Iterator[pytest.ExceptionInfo[InputError]]:
    """The block raises an :class:`InputError` whose first problem is this one."""
    with pytest.raises(InputError) as caught:
        yield caught
    assert_problem(caught.value.problems[0], what, where=where, found=found)


@contextlib.contextmanager
def full_disk(room: int = 512) -> Iterator[None]:
    """No file can grow beyond ``room`` bytes: the system refuses to write, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def in_a_child(work: Callable[[], object]) -> int:
    """Do ``work`` in a child process; gives how it ended, as ``waitpid`` tells it."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


class Noted(Progress):
    """Notes what each bar was advanced by."""

    def __init__(self) -> None:
        self.bars: dict[str, list[int]] = {}

    @contextlib.contextmanager
    def bar(self, label: str, total: int, done: int = 0) -> Iterator[Bar]:
        counted = self.bars[label] = [done, total]

        class Counting(Bar):
            def __call__(self, parts: int = 1) -> None:
                counted[0] += parts

        yield Counting()
