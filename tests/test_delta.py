"""Reading deltas: exact, and never silently wrong."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch.testing import assert_close

from helpers import Q_PROJ, refused, write_adapter
from mashup.delta import Delta, Factors, read_delta


def test_a_delta_is_scale_times_b_times_a(tmp_path):
    folder = write_adapter(tmp_path / "a", rank=4, alpha=6)
    stored = load_file(folder / "adapter_model.safetensors")
    prefix = f"base_model.model.{Q_PROJ}"
    expected = 1.5 * stored[f"{prefix}.lora_B.weight"] @ stored[f"{prefix}.lora_A.weight"]
    factors = read_delta(folder).modules[Q_PROJ]
    assert_close(factors.dense(), torch.from_numpy(expected))
    assert factors.rank == 4


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    folder = write_adapter(tmp_path / "a")
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values()))[0, 0] = value
    save_file(tensors, path)
    with refused("weights are not finite", where=str(path)):
        read_delta(folder)


def test_bfloat16_adapters_are_read_without_loss(tmp_path):
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch

    folder = write_adapter(tmp_path / "a")
    path = folder / "adapter_model.safetensors"
    halves = {name: tensor.bfloat16() for name, tensor in load_torch(path).items()}
    save_torch(halves, path)
    factors = read_delta(folder).modules[Q_PROJ]
    assert factors.A.dtype == torch.float32
    assert torch.equal(factors.A, halves[f"base_model.model.{Q_PROJ}.lora_A.weight"].float())


def test_an_untrained_lora_is_zero():
    some, none = torch.ones(2, 3), torch.zeros(3, 2)
    assert Delta({"m": Factors(some, none, 1.0)}).is_zero
    assert Delta({"m": Factors(some, none + 1, 0.0)}).is_zero
    assert not Delta({"m": Factors(some, none, 1.0), "n": Factors(some, none + 1, 1.0)}).is_zero


def test_stacked_experts_have_a_delta_each():
    right, left = torch.randn(3 * 2, 5), torch.randn(4, 2 * 3)
    factors = Factors(right, left, 0.5, "parameter", experts=3)
    A, B = right.reshape(3, 2, 5), left.reshape(4, 2, 3)
    assert factors.rank == 2
    assert_close(factors.dense(), 0.5 * torch.einsum("ore,eri->eoi", B, A))


def test_new_values_rows_and_biases_are_a_change():
    nothing = {"m": Factors(torch.ones(2, 3), torch.zeros(3, 2), 1.0)}
    some = torch.ones(3)
    assert Delta(nothing, biases={"m.bias": (1.0, some * 0)}).is_zero
    assert not Delta(nothing, biases={"m.bias": (1.0, some)}).is_zero
    assert not Delta(nothing, saved={"norm.weight": some}).is_zero
    assert not Delta(nothing, rows={"e.weight": ((1,), torch.ones(1, 3))}).is_zero
