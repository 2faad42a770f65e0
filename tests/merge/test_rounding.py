"""What rounding to the model's own type costs a small change is measured and said."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from lora import save_lora
from mashup import merge
from mashup.delta import read_delta
from mashup.merge.manifest import quality


@pytest.fixture
def half(tiny_base, tmp_path):
    """The tiny base in bfloat16."""
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "half")
    return tmp_path / "half"


def written_error(base, init, lora):
    """``‖written - exact‖ / ‖exact - base‖``, the long way, over the adapted modules."""
    before, after = (load_file(path / "model.safetensors") for path in (base, init.path))
    error = total = 0.0
    for name, factors in read_delta(lora, torch.float64).modules.items():
        delta, key = factors.dense(), f"{name}.weight"
        error += float((after[key].double() - before[key].double() - delta).square().sum())
        total += float(delta.square().sum())
    return (error / total) ** 0.5


@pytest.mark.parametrize(("size", "loud"), [(0.3, False), (0.03, True)])
def test_the_loss_is_what_is_written(half, tmp_path, size, loud):
    lora = save_lora(half, tmp_path / "a", size=size, lora_alpha=4)
    options = {"base": half, "output_kind": "full", "accept_base": True}
    init = merge([lora], output=tmp_path / "m", weights=[1.0], **options)
    assert init.manifest["relative_error"] == pytest.approx(
        written_error(half, init, lora), rel=0.01
    )
    assert ("--dtype float32" in quality(init.manifest)) is loud


def test_float32_loses_next_to_nothing_and_a_plain_mean_is_not_compared(half, tmp_path):
    lora = save_lora(half, tmp_path / "a", size=0.03)
    options = {"base": half, "output_kind": "full", "accept_base": True}
    exact = merge([lora], output=tmp_path / "m", weights=[1.0], dtype="float32", **options)
    assert exact.manifest["relative_error"] < 1e-4
    mean = merge([half, half], output=tmp_path / "n", accept_base=True)
    assert mean.manifest["relative_error"] is None
