"""Settings and weights that do not speak of the same modules are told, from the header alone."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from helpers import refused, write_adapter
from mashup.checkpoint import read_adapter, read_adapter_config, read_checkpoint

MODULES = {"model.layers.0.q_proj": (16, 16), "model.layers.0.v_proj": (16, 8)}
E = "model.layers.0.experts"


def adapter(folder, **config):
    return write_adapter(folder, modules=MODULES, **config)


def add(folder, **tensors):
    path = folder / "adapter_model.safetensors"
    made = {f"base_model.model.{k}": np.ones(shape, np.float32) for k, shape in tensors.items()}
    save_file(load_file(path) | made, path)
    return folder


def read(folder):
    return read_adapter(folder, read_adapter_config(folder))


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": r".*\.(q|v)_proj"},
        {"target_modules": "all-linear"},
        {"target_modules": ["proj", "q_proj", "layers.0.v_proj"], "exclude_modules": ["o_proj"]},
        {},
    ],
)
def test_settings_that_name_the_weights_are_fine(tmp_path, config):
    assert sorted(read(adapter(tmp_path, **config)).modules) == sorted(MODULES)


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["q_proj"]},
        {"target_modules": r"model\.layers\.0\.q_proj"},
        {"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["v_proj"]},
        {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
    ],
)
def test_weights_that_peft_would_drop_are_refused(tmp_path, config):
    with refused("weights without a target", found="_proj"):
        read(adapter(tmp_path, **config))


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"target_modules": ["q_proj", "v_proj"], "target_parameters": ["e.up"]}, "target_param"),
    ],
)
def test_a_half_saved_adapter_is_refused(tmp_path, config, found):
    with refused("module without weights", found=found):
        read(adapter(tmp_path, **config))


def test_a_name_that_no_weight_bears_is_a_note(tmp_path):
    config = {"target_modules": ["q_proj", "v_proj", "c_attn"]}
    folder = adapter(tmp_path, modules_to_save=["score", "head"], **config)
    add(folder, **{"score.weight": (2, 16)})
    assert read(folder).unmatched == ("c_attn", "head")
    assert read_checkpoint(folder).state == "ok; no weights for c_attn, head"
    assert read_checkpoint(folder).usable


def test_rows_must_be_as_many_as_tokens(tmp_path):
    folder = adapter(tmp_path, trainable_token_indices={"embed_tokens": [4, 7]})
    add(folder, **{"model.embed_tokens.token_adapter.trainable_tokens_delta": (3, 16)})
    with refused("shapes disagree", found="[3, 16] for 2 tokens"):
        read(folder)


def test_a_bias_of_b_must_be_there_when_the_settings_have_it(tmp_path):
    folder = add(adapter(tmp_path, lora_bias=True), **{"model.layers.0.q_proj.lora_B.bias": (16,)})
    with refused("half a LoRA", found="v_proj"):
        read(folder)


def test_two_adapters_in_one_file_are_refused(tmp_path):
    folder = add(adapter(tmp_path), **{"model.layers.0.q_proj.lora_A.other.weight": (4, 16)})
    with refused("tensor twice", found="q_proj"):
        read(folder)


def experts(folder, *names, depths=2, rank=4, **config):
    write_adapter(folder, modules=MODULES, target_modules=["q_proj", "v_proj"],
                  target_parameters=list(names), **config)  # fmt: skip
    for depth in range(depths):
        at = E + ".base_layer" * depth
        add(folder, **{f"{at}.lora_A.weight": (3 * rank, 8), f"{at}.lora_B.weight": (16, 3 * rank)})
    return folder


@pytest.mark.parametrize("order", [1, -1])
def test_the_innermost_lora_is_of_the_parameter_that_experts_hold_first(tmp_path, order):
    names = ["experts.gate_up_proj", "experts.down_proj"][::order]
    modules = read(experts(tmp_path, *names)).modules
    assert modules[f"{E}.down_proj"].A.name.endswith("experts.lora_A.weight")
    assert modules[f"{E}.gate_up_proj"].A.name.endswith("experts.base_layer.lora_A.weight")
    lora = modules[f"{E}.down_proj"]
    assert (lora.rank, lora.experts, lora.layout, lora.tensor) == (4, 3, "experts", lora.name)


@pytest.mark.parametrize(
    ("names", "depths"),
    [
        (["experts.first", "experts.second"], 2),
        (["experts.gate_up_proj"], 2),
        (["experts.gate_up_proj", "experts.down_proj"], 1),
    ],
)
def test_parameters_that_cannot_be_told_apart_are_refused(tmp_path, names, depths):
    with refused("cannot tell parameters apart", found=E):
        read(experts(tmp_path, *names, depths=depths))


def test_one_parameter_needs_no_order(tmp_path):
    assert f"{E}.first" in read(experts(tmp_path, "experts.first", depths=1)).modules
