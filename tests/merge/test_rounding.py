"""What rounding to the model's own type costs a small change is measured and said."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from helpers import refused
from kinds import save_kind
from lora import save_lora
from mashup import merge
from mashup._merge.manifest import quality
from mashup.delta import read_delta


@pytest.fixture
def half(tiny_base, tmp_path):
    """The tiny base in bfloat16."""
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "half")
    return tmp_path / "half"


def shrunk(lora, size):
    """The adapter with its B multiplied."""
    path = lora / "adapter_model.safetensors"
    save_file({n: t * (size if "lora_B" in n else 1) for n, t in load_file(path).items()}, path)
    return lora


def written_error(base, init, lora):
    """``‖written - exact‖ / ‖exact - base‖``, the long way, over all tensors."""
    before, after = (load_file(path / "model.safetensors") for path in (base, init.path))
    delta = read_delta(lora, torch.float64)
    exact = {f"{name}.weight": factors.dense() for name, factors in delta.modules.items()}
    error = total = 0.0
    for name, value in before.items():
        moved = after[name].double() - value.double()
        error += float((moved - exact.get(name, 0)).square().sum())
        total += float(torch.as_tensor(exact.get(name, 0.0)).square().sum())
    return (error / total) ** 0.5


@pytest.mark.parametrize(("size", "loud"), [(0.3, False), (0.03, True)])
def test_the_loss_is_what_is_written(half, tmp_path, size, loud):
    lora = save_lora(half, tmp_path / "a", size=size, lora_alpha=4)
    options = {"base": half, "output_kind": "full", "accept_base": True}
    init = merge([lora], output=tmp_path / "m", weights=[1.0], **options)
    assert init.manifest["relative_error"] == pytest.approx(
        written_error(half, init, lora), rel=0.01
    )
    assert ("`dtype` float32" in quality(init.manifest)) is loud


@pytest.mark.parametrize("size", [1e-4, 1e-7])
def test_what_a_float32_model_loses_of_a_small_change(tiny_base, tmp_path, size):
    lora = shrunk(save_lora(tiny_base, tmp_path / "a"), size)
    init = merge([lora], output=tmp_path / "m", weights=[1.0], base=tiny_base, output_kind="full")
    expected = written_error(tiny_base, init, lora)
    assert expected > 1e-6
    assert init.manifest["relative_error"] == pytest.approx(expected, rel=0.01)
    assert "`dtype` float32" not in quality(init.manifest)


def test_tensors_that_no_parent_changes_are_rounded_too(tiny_base, tmp_path):
    lora = save_lora(tiny_base, tmp_path / "a", size=0.03)
    options = {"base": tiny_base, "output_kind": "full", "dtype": "bfloat16"}
    init = merge([lora], output=tmp_path / "m", weights=[1.0], **options)
    expected = written_error(tiny_base, init, lora)
    assert init.manifest["relative_error"] == pytest.approx(expected, rel=0.01)


def test_saved_modules_are_in_the_error(tiny_base, tmp_path):
    lora = save_kind(tiny_base, tmp_path / "a", modules_to_save=["lm_head"])
    path = lora / "adapter_model.safetensors"
    tensors, base = load_file(path), load_file(tiny_base / "model.safetensors")
    key = "base_model.model.lm_head.weight"
    tensors[key] = base["lm_head.weight"] + 2e-5 * torch.randn(tensors[key].shape)
    save_file({n: t * (1e-3 if "lora_B" in n else 1) for n, t in tensors.items()}, path)
    exact = {n: f.dense() for n, f in read_delta(lora, torch.float64).modules.items()}
    total = sum(float(d.square().sum()) for d in exact.values())
    total += float((load_file(path)[key].double() - base["lm_head.weight"].double()).norm() ** 2)

    init = merge([lora], output=tmp_path / "m", weights=[1.0], base=tiny_base, dtype="bfloat16")
    after = load_file(init.path / "adapter_model.safetensors")
    made = {n: f.dense() for n, f in read_delta(init.path, torch.float64).modules.items()}
    error = sum(float((made[n] - exact[n]).square().sum()) for n in exact)
    error += float((after[key].double() - load_file(path)[key].double()).norm() ** 2)
    expected = (error / total) ** 0.5
    assert expected > 0.1
    assert init.manifest["relative_error"] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("method", ["ties", "dare_linear"])
def test_a_dense_merge_of_full_rank_does_not_overstate_its_error(tiny_base, tmp_path, method):
    loras = [save_lora(tiny_base, tmp_path / f"{n}", seed=n) for n in range(2)]
    init = merge(loras, output=tmp_path / "m", method=method, rank=32)
    assert init.manifest["relative_error"] < 3e-6
    assert init.manifest["kept_energy"] == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "weights"), [("lora", [1.0, -1.0]), ("lora", [0.1, 0.2, -0.3]), ("full", [1.0, -1.0])]
)
def test_weights_that_cancel_leave_nothing(tiny_base, tmp_path, kind, weights):
    parents = [save_lora(tiny_base, tmp_path / "a")] * len(weights)
    with refused("merge changes nothing", where="weights"):
        merge(parents, output=tmp_path / "m", weights=weights, base=tiny_base, output_kind=kind)
    assert not (tmp_path / "m").exists()


def test_a_model_that_is_its_base_to_the_bit_is_refused(tiny_base, tmp_path):
    lora = shrunk(save_lora(tiny_base, tmp_path / "a"), 1e-20)
    given = {"output": tmp_path / "m", "weights": [1.0], "base": tiny_base}
    with refused("merge changes nothing") as caught:
        merge([lora], output_kind="full", **given)
    assert "`output_kind` lora" in caught.value.problems[0].fix
    assert merge([lora], **given).manifest["kept_energy"] == pytest.approx(1.0)


def test_float32_loses_next_to_nothing_and_a_plain_mean_is_not_compared(half, tmp_path):
    lora = save_lora(half, tmp_path / "a", size=0.03)
    options = {"base": half, "output_kind": "full", "accept_base": True}
    exact = merge([lora], output=tmp_path / "m", weights=[1.0], dtype="float32", **options)
    assert exact.manifest["relative_error"] < 1e-4
    mean = merge([half, half], output=tmp_path / "n", accept_base=True)
    assert mean.manifest["relative_error"] is None
