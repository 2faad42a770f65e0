"""Whole models merged into a LoRA, and GPT-2's transposed layers: as the model would be."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from lora import save_lora
from mashup import merge
from mashup.merge import METHODS
from wholes import distance, materialised, relative_of, tensors_of

FIXED = ["linear", "task_arithmetic", "ties", "breadcrumbs", "slerp", "model_stock"]
RANDOM = [name for name, method in METHODS.items() if "seed" in method.takes]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory, tokenizer):
    """A random GPT-2, whose Conv1D keep weights as ``(d_in, d_out)``."""
    folder = tmp_path_factory.mktemp("models") / "gpt2"
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def modules_alone(found, base):
    """Linear layers of ``found``; the base's value of what a LoRA cannot hold."""
    adapted = (".q_proj.", ".k_proj.", ".v_proj.", ".o_proj.", "_proj.weight")
    return {n: t if any(a in n for a in adapted) else base[n] for n, t in found.items()}


@pytest.mark.parametrize("method", FIXED + RANDOM)
def test_a_lora_of_full_rank_holds_all_linear_layers(tiny_base, tmp_path, method):
    wholes = [relative_of(tiny_base, tmp_path / f"w{n}", seed=n) for n in range(2)]
    given = {"base": tiny_base, "method": method, "accept_base": True}
    whole = tensors_of(merge(wholes, output=tmp_path / "f", **given).path)
    init = merge(wholes, output=tmp_path / "l", output_kind="lora", rank=32, **given)
    base = tensors_of(tiny_base)
    put = tensors_of(materialised(tiny_base, init.path, tmp_path / "p"))
    assert distance(put, modules_alone(whole, base), base) < 1e-5
    assert 0 < init.manifest["left_out_energy"] < 1


@pytest.mark.parametrize("method", FIXED)
def test_transposed_layers(gpt2, tmp_path, method):
    targets = {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}
    loras = [save_lora(gpt2, tmp_path / f"l{s}", seed=s, **targets) for s in (1, 2)]
    wholes = [materialised(gpt2, path, tmp_path / f"w{n}") for n, path in enumerate(loras)]
    given = {"base": gpt2, "method": method, "accept_base": True}
    whole = tensors_of(merge(wholes, output=tmp_path / "w", **given).path)
    full = tensors_of(merge(loras, output=tmp_path / "f", output_kind="full", **given).path)
    lora = merge(loras, output=tmp_path / "l", rank=32, **given).path
    put = tensors_of(materialised(gpt2, lora, tmp_path / "p"))
    within = 0.02 if METHODS[method].trim else 1e-5
    assert distance(full, whole, tensors_of(gpt2)) < within
    assert distance(put, whole, tensors_of(gpt2)) < within
