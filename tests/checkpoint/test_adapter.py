from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from helpers import Q_PROJ, refused, write_adapter
from mashup.checkpoint import AdapterConfig, LoraModule, read_adapter, read_adapter_config
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
