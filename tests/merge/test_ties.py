"""Tied weights stay tied, or the user says otherwise."""

import json

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from helpers import refused, write_adapter
from lora import peft_logits, some_ids
from mashup import merge
from mashup._check import check
from wholes import relative_of, tensors_of, write_whole

EMBEDDING = "model.embed_tokens.weight"


def untied(tied, folder):
    """A fine-tune of the tied model that was saved with a head of its own."""
    tensors = tensors_of(relative_of(tied, folder.with_name("tmp"), seed=5))
    head = tensors[EMBEDDING] + 0.1
    write_whole(folder, tensors | {"lm_head.weight": head}, tied)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    return folder


def test_a_head_of_its_own_in_a_tied_model_is_a_choice(tied_base, tmp_path):
    parents = [relative_of(tied_base, tmp_path / "a", seed=1), untied(tied_base, tmp_path / "b")]
    given = {"base": tied_base, "accept_base": True}
    with refused("tied weights differ", where="/b", found="of its own") as caught:
        merge(parents, output=tmp_path / "m", **given)
    assert "`untie`" in caught.value.problems[0].fix
    assert not (tmp_path / "m").exists()
    path = merge(parents, output=tmp_path / "m", untie=True, **given).path
    one, two, found = map(tensors_of, (*parents, path))
    assert_close(found[EMBEDDING], (one[EMBEDDING] + two[EMBEDDING]) / 2)
    assert_close(found["lm_head.weight"], (one[EMBEDDING] + two["lm_head.weight"]) / 2)
    model = AutoModelForCausalLM.from_pretrained(path)
    assert_close(model.lm_head.weight.data, found["lm_head.weight"])
    assert_close(model.model.embed_tokens.weight.data, found[EMBEDDING])


def test_a_tied_parent_in_an_untied_model_is_a_choice_too(tied_base, tmp_path):
    base, parent = (
        untied(tied_base, tmp_path / "base"),
        relative_of(tied_base, tmp_path / "a", seed=1),
    )
    given = {"base": base, "accept_base": True}
    with refused("tied weights differ", where="/a", found="tied to the embedding"):
        merge([parent], output=tmp_path / "m", **given)
    found = tensors_of(merge([parent], output=tmp_path / "m", untie=True, **given).path)
    assert_close(found["lm_head.weight"], tensors_of(parent)[EMBEDDING])


def test_untie_changes_nothing_where_no_parent_breaks_a_tie(tied_base, tmp_path):
    parents = [relative_of(tied_base, tmp_path / n, seed=s) for s, n in enumerate("ab")]
    path = merge(parents, output=tmp_path / "m", accept_base=True, untie=True).path
    assert "lm_head.weight" not in tensors_of(path)
    assert json.loads((path / "config.json").read_text())["tie_word_embeddings"] is True


def lora_with_head(base, folder):
    given = {"alpha": 0.4, "modules": {"lm_head": (32, 300)}, "target_modules": ["lm_head"]}
    return write_adapter(folder, base=str(base), **given)


def test_a_lora_on_one_of_the_pair_would_break_it_in_a_whole_model(tied_base, tmp_path):
    lora = lora_with_head(tied_base, tmp_path / "a")
    with refused("tied weights differ", where=str(lora)):
        merge([lora], output=tmp_path / "m", base=tied_base, output_kind="full", accept_base=True)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_a_lora_on_the_head_of_a_tied_model_in_a_model_that_is_not(tied_base, tmp_path):
    lora = lora_with_head(tied_base, tmp_path / "a")
    given = {"base": tied_base, "accept_base": True, "weights": [1.0]}
    ids = some_ids()
    with torch.no_grad():
        whole = merge([lora], output=tmp_path / "m", output_kind="full", untie=True, **given)
        found = AutoModelForCausalLM.from_pretrained(whole.path).eval()(ids).logits
    expected = peft_logits(tied_base, lora, ids)
    assert_close(found, expected, rtol=1e-4, atol=1e-4)
    again = merge([lora], output=tmp_path / "n", **given)
    assert_close(peft_logits(tied_base, again.path, ids), expected, rtol=1e-4, atol=1e-4)


def test_gpt_neox_names_its_head_otherwise_and_is_untied(tokenizer, tmp_path):
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    GPTNeoXForCausalLM(config).save_pretrained(tmp_path / "base")
    parents = [relative_of(tmp_path / "base", tmp_path / n, seed=s) for s, n in enumerate("ab")]
    init = merge(parents, output=tmp_path / "m", base=tmp_path / "base", accept_base=True)
    one, two, found = map(tensors_of, (*parents, init.path))
    for name in ("embed_out.weight", "lm_head.weight"):
        if name in found:
            assert_close(found[name], (one[name] + two[name]) / 2)


def test_gpt2_ties_a_head_that_no_file_holds(tokenizer, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    parents = [relative_of(tmp_path / "base", tmp_path / n, seed=s) for s, n in enumerate("ab")]
    init = merge(parents, output=tmp_path / "m", base=tmp_path / "base", accept_base=True)
    model = AutoModelForCausalLM.from_pretrained(init.path)
    assert model.lm_head.weight is model.transformer.wte.weight


def test_a_tied_model_with_another_head_is_refused(tied_base, tmp_path):
    tensors = tensors_of(relative_of(tied_base, tmp_path / "tmp", seed=1))
    head = tensors[EMBEDDING].clone()
    head[-1, -1] += 1
    parent = write_whole(tmp_path / "a", tensors | {"lm_head.weight": head}, tied_base)
    with refused("head does not fit its settings", where="/a", found="two different tensors"):
        merge([parent], output=tmp_path / "m", accept_base=True)
    with refused("head does not fit its settings", where="/a"):
        merge([tied_base], output=tmp_path / "m", base=parent, accept_base=True)
    reports = check([parent, tied_base])
    assert [[p.what for p in r.problems] for r in reports] == [
        ["head does not fit its settings"],
        [],
    ]


def test_a_tied_model_may_store_its_embedding_twice(tied_base, tmp_path):
    tensors = tensors_of(relative_of(tied_base, tmp_path / "tmp", seed=1))
    twice = tensors | {"lm_head.weight": tensors[EMBEDDING].clone()}
    parent = write_whole(tmp_path / "a", twice, tied_base)
    init = merge([parent], output=tmp_path / "m", accept_base=True)
    assert tensors_of(init.path).keys() == tensors.keys()


def test_an_untied_model_without_a_head_is_refused(tiny_base, tmp_path):
    """transformers would load the result with a head of random numbers."""
    tensors = tensors_of(relative_of(tiny_base, tmp_path / "tmp", seed=1))
    del tensors["lm_head.weight"]
    parent = write_whole(tmp_path / "a", tensors, tiny_base)
    with refused("head does not fit its settings", where="/a", found="no output head"):
        merge([parent], output=tmp_path / "m", accept_base=True)
