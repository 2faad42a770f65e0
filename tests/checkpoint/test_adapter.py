from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from helpers import Q_PROJ, refused, write_adapter
from mashup.checkpoint import (
    AdapterConfig,
    LoraModule,
    laid_out,
    read_adapter,
    read_adapter_config,
    read_checkpoint,
)
from mashup.checkpoint.adapter import WEIGHTS, adapter_weights

PLAIN = AdapterConfig("owner/tiny", None, rank=4, alpha=8)


def modules_of(folder: Path) -> dict[str, LoraModule]:
    return dict(read_adapter(folder, read_adapter_config(folder)).modules)


def write_weights(folder: Path, **shapes: tuple[int, ...]) -> Path:
    tensors = {key: np.ones(shape, np.float32) for key, shape in shapes.items()}
    save_file(tensors, folder / WEIGHTS)
    return folder


def test_modules_have_the_shapes_of_the_file_and_the_scale_of_the_settings(tmp_path):
    shapes = {"layers.0.down": (64, 32), "layers.0.up": (32, 64)}
    write_adapter(tmp_path, modules=shapes, rank=4, alpha=8, rank_pattern={"up": 2})
    assert modules_of(tmp_path) == {
        "layers.0.down": LoraModule("layers.0.down", 4, 64, 32, 2.0, "linear", None, None),
        "layers.0.up": LoraModule("layers.0.up", 2, 32, 64, 4.0, "linear", None, None),
    }


def test_a_pickle_is_refused_even_if_it_is_all_there_is(tmp_path):
    (tmp_path / "adapter_model.bin").write_bytes(b"not even opened")
    with refused("pickle refused", where="adapter_model.bin"):
        adapter_weights(tmp_path)


def test_safetensors_are_used_when_a_pickle_lies_beside_them(tmp_path):
    write_adapter(tmp_path)
    (tmp_path / "adapter_model.bin").touch()
    assert adapter_weights(tmp_path) == tmp_path / WEIGHTS


def test_no_weights_are_said_to_be_missing(tmp_path):
    with refused("no adapter weights", where=str(tmp_path), found=WEIGHTS):
        adapter_weights(tmp_path)


def test_half_a_lora_is_refused(tmp_path):
    write_weights(tmp_path, **{f"{Q_PROJ}.lora_B.weight": (16, 4)})
    with refused("half a LoRA", found=f"{Q_PROJ} has only lora_B"):
        read_adapter(tmp_path, PLAIN)


def test_a_rank_that_is_not_that_of_the_settings_is_refused(tmp_path):
    write_adapter(tmp_path, rank=2)
    with refused("rank differs", where=WEIGHTS, found="rank 2"):
        read_adapter(tmp_path, PLAIN)


@pytest.mark.parametrize("b", [(16, 3), (16,), (16, 4, 1, 1)])
def test_halves_that_do_not_multiply_are_refused(tmp_path, b):
    write_weights(tmp_path, **{"w.lora_A.weight": (4, 16), "w.lora_B.weight": b})
    with refused("shapes disagree", found=f"B {list(b)}"):
        read_adapter(tmp_path, PLAIN)


def test_a_tensor_that_is_no_lora_is_refused_by_name(tmp_path):
    write_weights(tmp_path, **{"base_model.model.model.norm.weight": (8,)})
    with refused("not a LoRA tensor", found="norm.weight"):
        read_adapter(tmp_path, PLAIN)


def test_a_file_without_tensors_is_refused(tmp_path):
    with refused("no LoRA tensors", where=WEIGHTS):
        read_adapter(write_weights(tmp_path), PLAIN)


# Settings and weights that do not speak of the same modules are told, from the header alone.


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


EXPERTS = "mlp.experts"


def lora(leaf, d_in, d_out):
    name = f"{EXPERTS}.{leaf}"
    return {
        name: LoraModule(name, 2, d_in, d_out, 1.0, "experts", None, None, "parameter", experts=3)
    }


@pytest.mark.parametrize(
    ("shape", "layout"), [((3, 8, 4), "experts"), ((3, 4, 8), "experts_transposed")]
)
def test_the_base_tells_which_way_round_its_experts_are(shape, layout):
    modules = lora("gate_up_proj", 4, 8) | lora("down_proj", 4, 4)
    shapes = {f"{EXPERTS}.gate_up_proj": shape, f"{EXPERTS}.down_proj": (3, 4, 4)}
    found = laid_out(modules, shapes)
    assert {module.layout for module in found.values()} == {layout}


def test_a_square_parameter_alone_says_neither():
    with refused("cannot tell the experts' layout", where="down_proj"):
        laid_out(lora("down_proj", 4, 4), {f"{EXPERTS}.down_proj": (3, 4, 4)})


def test_other_kinds_stay_as_they_are():
    plain = {"q": LoraModule("q", 2, 4, 4, 1.0, "linear", None, None)}
    assert laid_out(plain, {"q.weight": (4, 4)}) == plain
