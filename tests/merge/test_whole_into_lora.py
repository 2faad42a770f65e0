"""Full checkpoints merged into a LoRA, and GPT-2's transposed layers: as the model would be."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel

from helpers import refused, write_json
from kinds import save_kind, write_base
from lora import save_lora
from mashup import check, merge
from mashup._merge.methods import METHODS
from wholes import distance, materialised, relative_of, same_bits, tensors_of

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
    adapted = ("_proj.weight", ".c_attn.weight", ".c_fc.weight")
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


def test_whole_models_into_a_lora_need_their_base(tiny_base, tmp_path):
    wholes = [relative_of(tiny_base, tmp_path / f"w{n}", seed=n) for n in range(2)]
    with refused("base model is needed"):
        merge(wholes, output=tmp_path / "l", output_kind="lora", rank=8, accept_base=True)


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


@pytest.fixture(scope="module")
def square(gpt2, tmp_path_factory):
    """Parents that change GPT-2's ``attn.c_proj``, which is square and stored transposed."""
    folder = tmp_path_factory.mktemp("square")
    targets = {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}
    loras = [save_lora(gpt2, folder / f"l{n}", seed=n, **targets) for n in range(2)]
    wholes = [relative_of(gpt2, folder / f"w{n}", seed=n) for n in range(2)]
    return {"LoRAs": loras, "full checkpoints": wholes, "both": [loras[0], wholes[1]]}


@pytest.mark.parametrize("kind", ["LoRAs", "full checkpoints", "both"])
@pytest.mark.parametrize("method", FIXED + RANDOM)
def test_square_modules_are_not_transposed(gpt2, square, tmp_path, method, kind):
    given = {"method": method, "accept_base": True}
    full = merge(square[kind], output=tmp_path / "f", base=gpt2, output_kind="full", **given)
    base = None if kind == "LoRAs" else gpt2
    lora = merge(
        square[kind], output=tmp_path / "l", base=base, output_kind="lora", rank=32, **given
    )
    before = tensors_of(gpt2)
    put = tensors_of(materialised(gpt2, lora.path, tmp_path / "p"))
    assert distance(put, modules_alone(tensors_of(full.path), before), before) < 1e-5


@pytest.mark.parametrize("with_base", [True, False])
def test_a_conv1d_that_one_adapter_calls_linear(gpt2, square, tmp_path, with_base):
    """PEFT writes ``fan_in_fan_out`` of the last kind of module: False where that is a head."""
    one, two = square["LoRAs"]
    said = json.loads((two / "adapter_config.json").read_text()) | {"fan_in_fan_out": False}
    write_json(shutil.copytree(two, tmp_path / "two") / "adapter_config.json", said)
    given = {"method": "ties", "rank": 32, "base": gpt2 if with_base else None}
    wanted = merge([one, two], output=tmp_path / "m", **given).path
    found = merge([one, tmp_path / "two"], output=tmp_path / "n", **given).path
    name = "adapter_model.safetensors"
    assert same_bits(load_file(found / name), load_file(wanted / name))
    config = (found / "adapter_config.json").read_bytes()
    assert config == (wanted / "adapter_config.json").read_bytes()
    (checked,) = check([tmp_path / "two"], base=gpt2)
    assert checked.problems == ()


@pytest.mark.parametrize("method", ["linear", "ties", "dare_linear", "della", "breadcrumbs"])
def test_square_experts_are_not_transposed(tmp_path, method):
    base = write_base(tmp_path / "b", "gpt-oss", intermediate_size=32)
    targets = {
        "target_modules": ["q_proj"],
        "target_parameters": ["experts.gate_up_proj", "experts.down_proj"],
        "modules_to_save": ["norm"],
    }
    loras = [save_kind(base, tmp_path / f"l{n}", seed=n, **targets) for n in range(2)]
    given = {"method": method, "base": base}
    full = tensors_of(merge(loras, output=tmp_path / "f", output_kind="full", **given).path)
    lora = merge(loras, output=tmp_path / "l", rank=32, **given).path
    put = tensors_of(materialised(base, lora, tmp_path / "p"))
    assert distance(put, full, tensors_of(base)) < 1e-5
