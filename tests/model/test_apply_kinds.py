"""Every additive kind of LoRA computes what PEFT computes, and leaves the base as it was."""

import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from kinds import KINDS, load_kind, save_kind, trained, write_base
from lora import some_ids
from mashup.checkpoint import open_checkpoint
from mashup.delta import read_delta
from mashup.model import applied, fit_loaded, shapes_of


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    made = {}

    def base(family):
        if family not in made:
            made[family] = write_base(tmp_path_factory.mktemp("bases") / family, family)
        return made[family]

    return base


def state(model):
    """Names, bits and storage of everything in the model: ties show as one storage."""
    tensors = model.state_dict(keep_vars=True)
    ties = {name: (id(tensor), tensor.data_ptr()) for name, tensor in tensors.items()}
    return ties, {name: tensor.detach().clone() for name, tensor in tensors.items()}


def assert_same_state(model, before):
    ties, values = state(model)
    assert ties == before[0]
    assert all(torch.equal(values[name], value) for name, value in before[1].items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_patched_base_computes_what_peft_computes(bases, tmp_path, kind):
    family, config = KINDS[kind]
    folder = save_kind(bases(family), tmp_path / "lora", **config)
    model, ids = AutoModelForCausalLM.from_pretrained(bases(family)).eval(), some_ids()
    before, opened = state(model), open_checkpoint(folder)
    assert fit_loaded(opened, shapes_of(model), model, accept_base=True).problems == ()
    assert opened.adapter.unmatched == ()
    with torch.no_grad():
        bare = model(ids).logits
        with applied(model, read_delta(folder)):
            patched = model(ids).logits
        expected = load_kind(bases(family), folder)(ids).logits
        torch.testing.assert_close(patched, expected, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(patched, bare, atol=1e-2)
        assert torch.equal(model(ids).logits, bare)
    assert_same_state(model, before)


@pytest.mark.parametrize("family", ["llama", "tied"])
@pytest.mark.parametrize("saved", [["embed_tokens"], ["embed_tokens", "lm_head"], None])
def test_embeddings_that_were_resized_are_saved_whole_and_read(bases, tmp_path, family, saved):
    """PEFT then also saves what lies under a copy, which only a tied head computes with."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(bases(family))
    model.resize_token_embeddings(324, mean_resizing=False)
    config = LoraConfig(target_modules=["q_proj"], modules_to_save=saved)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = get_peft_model(model, config)
        for parameter in trained(wrapped):
            parameter.data.add_(0.2 * torch.randn_like(parameter))
        wrapped.save_pretrained(tmp_path / "lora")
    other = write_base(tmp_path / "other", family, vocab_size=324)
    base, ids = AutoModelForCausalLM.from_pretrained(other).eval(), some_ids(324)
    before, opened = state(base), open_checkpoint(tmp_path / "lora")
    assert fit_loaded(opened, shapes_of(base), base, accept_base=True).problems == ()
    with torch.no_grad():
        with applied(base, read_delta(tmp_path / "lora")):
            patched = base(ids).logits
        expected = load_kind(other, tmp_path / "lora")(ids).logits
    torch.testing.assert_close(patched, expected, rtol=1e-4, atol=1e-5)
    assert_same_state(base, before)
