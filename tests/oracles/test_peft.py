"""PEFT's own merges that work on deltas: cat, svd, ties_svd and magnitude_prune_svd."""

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lora import save_lora
from mashup import merge
from mashup.delta import read_delta
from wholes import distance

NAMES = ("a", "b", "c")
WEIGHTS = (0.2, 0.3, 0.5)


@pytest.fixture(scope="module")
def adapters(tiny_base, tmp_path_factory):
    """Three LoRAs of other ranks and scales each."""
    folder = tmp_path_factory.mktemp("adapters")
    targets = {"target_modules": ["q_proj", "down_proj"]}
    configs = ({"r": 4, "lora_alpha": 12}, {"r": 6, "use_rslora": True}, {"r": 4, "lora_alpha": 3})
    return [
        save_lora(tiny_base, folder / name, seed=seed, **targets, **config)
        for seed, (name, config) in enumerate(zip(NAMES, configs, strict=True))
    ]


def peft_merge(base, adapters, folder, weights=WEIGHTS, **given):
    """The deltas of what ``add_weighted_adapter`` makes, read from what PEFT saves."""
    model = AutoModelForCausalLM.from_pretrained(base)
    model = PeftModel.from_pretrained(model, adapters[0], adapter_name="a")
    for name, path in zip(NAMES[1:], adapters[1:], strict=True):
        model.load_adapter(path, name)
    model.add_weighted_adapter(list(NAMES), list(weights), "m", **given)
    model.save_pretrained(folder, selected_adapters=["m"])
    return dense(folder / "m")


def dense(folder):
    return {name: f.dense() for name, f in read_delta(folder, torch.float64).modules.items()}


def test_cat_is_linear(tiny_base, adapters, tmp_path):
    theirs = peft_merge(tiny_base, adapters, tmp_path / "p", combination_type="cat")
    found = merge(adapters, output=tmp_path / "m", weights=WEIGHTS)
    assert distance(dense(found.path), theirs) < 1e-6


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_svd_is_a_rank(tiny_base, adapters, tmp_path, rank):
    given = {"combination_type": "svd", "svd_rank": rank}
    theirs = peft_merge(tiny_base, adapters, tmp_path / "p", **given)
    found = merge(adapters, output=tmp_path / "m", weights=WEIGHTS, rank=rank)
    assert found.manifest["kept_energy"] < 0.99
    assert distance(dense(found.path), theirs) < 1e-5


@pytest.mark.parametrize(
    ("theirs", "method"), [("ties_svd", "ties"), ("magnitude_prune_svd", "breadcrumbs")]
)
@pytest.mark.parametrize("density", [0.2, 0.7])
def test_trimming_of_deltas_at_full_rank(tiny_base, adapters, tmp_path, theirs, method, density):
    given = {"combination_type": theirs, "svd_rank": 32, "density": density}
    expected = peft_merge(tiny_base, adapters, tmp_path / "p", (1.0, 1.0, 1.0), **given)
    ours = {"method": method, "weights": (1, 1, 1), "rank": 32, "density": density, "gamma": 0}
    found = merge(adapters, output=tmp_path / "m", **ours)
    assert distance(dense(found.path), expected) < 1e-5
