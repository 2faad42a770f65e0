"""LoRAs merged into a model, and the models that they make, merged: the same."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from lora import peft_logits, save_lora, some_ids
from mashup import merge
from mashup._merge.methods import METHODS
from wholes import distance, materialised, same_bits, tensors_of

WHOLE = [name for name in METHODS if name not in ("greedy_soup", "factor_average")]


@pytest.mark.parametrize("method", WHOLE)
def test_loras_into_a_model_change_what_they_adapt_and_nothing_else(tiny_base, tmp_path, method):
    some = [save_lora(tiny_base, tmp_path / n, seed=s) for n, s in (("a", 1), ("b", 2))]
    given = {"base": tiny_base, "output_kind": "full", "method": method}
    made = tensors_of(merge(some, output=tmp_path / "m", **given).path)
    before = tensors_of(tiny_base)
    adapted = {n for n in before if n.split(".")[-2] in ("q_proj", "v_proj", "down_proj")}
    kept = before.keys() - adapted
    assert same_bits({n: made[n] for n in kept}, {n: before[n] for n in kept})
    assert any(not torch.equal(made[n], before[n]) for n in adapted)


@pytest.mark.parametrize(
    ("method", "within"),
    [
        *((name, 1e-5) for name in ("linear", "task_arithmetic", "slerp", "model_stock")),
        *((name, 0.02) for name in ("ties", "breadcrumbs")),  # rounding decides near ties
    ],
)
def test_loras_merge_as_the_models_that_they_make(tiny_base, tmp_path, method, within):
    loras = [save_lora(tiny_base, tmp_path / f"l{s}", seed=s) for s in (1, 2)]
    wholes = [materialised(tiny_base, p, tmp_path / f"w{n}") for n, p in enumerate(loras)]
    given = {"method": method, "base": tiny_base, "accept_base": True, "weights": [0.4, 0.6]}
    whole = tensors_of(merge(wholes, output=tmp_path / "w", **given).path)
    full = tensors_of(merge(loras, output=tmp_path / "f", output_kind="full", **given).path)
    lora = merge(loras, output=tmp_path / "l", rank=32, **given).path
    before = tensors_of(tiny_base)
    assert distance(full, whole, before) < within
    put = tensors_of(materialised(tiny_base, lora, tmp_path / "p"))
    assert distance(put, whole, before) < within


def test_a_lora_on_a_whole_model_computes_what_peft_computes(tiny_base, tmp_path):
    lora = save_lora(tiny_base, tmp_path / "a")
    init = merge([lora], output=tmp_path / "m", base=tiny_base, output_kind="full")
    model = AutoModelForCausalLM.from_pretrained(init.path)
    with torch.no_grad():
        found = model(some_ids()).logits
    torch.testing.assert_close(found, peft_logits(tiny_base, lora, some_ids()))
