"""How far averages of factors are from the mean of deltas, in the two clear cases.

Between them lie trained adapters: ``benchmarks/averaging.py`` measures some.
"""

import math

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from lora import save_lora
from mashup import merge
from mashup.delta import read_delta
from wholes import distance


@pytest.fixture
def pair(tiny_base, tmp_path):
    """Two random LoRAs; ``shared``: of one A, as if one seed began both and A never moved."""

    def made(shared):
        one, other = (save_lora(tiny_base, tmp_path / n, seed=s) for n, s in (("a", 1), ("b", 2)))
        first, second = (load_file(p / "adapter_model.safetensors") for p in (one, other))
        if shared:
            second |= {name: tensor for name, tensor in first.items() if "lora_A" in name}
            save_file(second, other / "adapter_model.safetensors")
        return one, other

    return made


def dense(folder):
    return {name: f.dense() for name, f in read_delta(folder, torch.float64).modules.items()}


def mean(pair):
    one, other = map(dense, pair)
    return {name: (one[name] + other[name]) / 2 for name in one}


def peft_linear(base, pair, folder):
    model = AutoModelForCausalLM.from_pretrained(base)
    model = PeftModel.from_pretrained(model, pair[0], adapter_name="a")
    model.load_adapter(pair[1], "b")
    model.add_weighted_adapter(["a", "b"], [0.5, 0.5], "m", combination_type="linear")
    model.save_pretrained(folder, selected_adapters=["m"])
    return dense(folder / "m")


def test_of_one_a_the_papers_average_is_exact_and_pefts_is_twice_too_large(
    tiny_base, pair, tmp_path
):
    parents = pair(shared=True)
    averaged = merge(parents, output=tmp_path / "f", method="factor_average").path
    assert distance(dense(averaged), mean(parents)) < 1e-6
    theirs = peft_linear(tiny_base, parents, tmp_path / "l")
    assert distance(theirs, {n: 2 * delta for n, delta in mean(parents).items()}) < 1e-6
    assert distance(theirs, mean(parents)) == pytest.approx(1, abs=1e-6)


def test_of_two_seeds_both_are_mostly_cross_terms(tiny_base, pair, tmp_path):
    parents = pair(shared=False)
    averaged = merge(parents, output=tmp_path / "f", method="factor_average").path
    assert distance(dense(averaged), mean(parents)) == pytest.approx(math.sqrt(1 / 2), abs=0.1)
    theirs = peft_linear(tiny_base, parents, tmp_path / "l")
    assert distance(theirs, mean(parents)) == pytest.approx(1, abs=0.15)


def test_linear_is_the_mean_in_both(pair, tmp_path):
    for shared in (True, False):
        parents = pair(shared=shared)
        found = merge(parents, output=tmp_path / str(shared)).path
        assert distance(dense(found), mean(parents)) < 1e-6
