"""A prefix is shared only where that is right and pays; where it is not, losses are as before."""

import contextlib
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, MambaConfig, RwkvConfig

from kinds import write_base
from mashup.evaluate.batches import make_batches
from mashup.evaluate.prefix import agrees, common_prefix, holds_prefix, pays, share_prefix
from samples import alike


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture
def model(folder):
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def batches():
    return make_batches(alike(), 0, 320, size=300)


def marked(batches):
    return tuple(replace(batch, prefix=common_prefix(batches)) for batch in batches)


def prefixes(model, batches):
    return {batch.prefix for batch in share_prefix(model, batches)}


_SHARING = [(name, torch.float32) for name in ("llama", "gemma", "gpt2", "mixtral")]
_SHARING += [("gemma", torch.bfloat16)]


@pytest.mark.parametrize(("family", "dtype"), _SHARING)
def test_a_prefix_is_shared(tmp_path, batches, family, dtype):
    model = AutoModelForCausalLM.from_pretrained(write_base(tmp_path, family), dtype=dtype)
    model.train()
    assert prefixes(model, batches) == {20}
    assert model.training


@pytest.mark.parametrize(("window", "holds"), [(20, False), (21, True), (None, True)])
def test_a_window_must_be_longer_than_the_prefix(tmp_path, batches, window, holds):
    base = write_base(tmp_path, "mistral", sliding_window=window)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    assert holds_prefix(model, 20) == holds
    assert prefixes(model, batches) == ({20} if holds else {0})


@pytest.mark.parametrize("config", [MambaConfig, RwkvConfig])
def test_recurrent_models_run_plainly(config, batches):
    small = config(vocab_size=320, hidden_size=32, num_hidden_layers=2)
    model = AutoModelForCausalLM.from_config(small).eval()
    assert prefixes(model, batches) == {0}


def _forgetting(model):
    """The cache grows, and what it held before counts for nothing."""
    plain = model.model.forward

    def forward(*args, attention_mask=None, **kwargs):
        if attention_mask is not None:
            attention_mask = attention_mask.clone()
            attention_mask[:, : attention_mask.shape[1] - kwargs["input_ids"].shape[1]] = 0
        return plain(*args, attention_mask=attention_mask, **kwargs)

    model.model.forward = forward


def _from_position_zero(model):
    plain = model.model.rotary_emb.forward
    model.model.rotary_emb.forward = lambda x, position_ids: plain(
        x, position_ids - position_ids.min()
    )


def _refusing(model):
    plain = model.forward

    def forward(*args, use_cache=False, **kwargs):
        if use_cache:
            raise ValueError("no cache here")
        return plain(*args, use_cache=use_cache, **kwargs)

    model.forward = forward


@pytest.mark.parametrize("broken", [_forgetting, _from_position_zero, _refusing])
def test_a_model_that_computes_another_thing_runs_plainly(model, batches, broken):
    assert agrees(model, marked(batches)[0])
    broken(model)
    assert not agrees(model, marked(batches)[0])
    assert prefixes(model, batches) == {0}


def test_a_trial_that_could_not_tell_does_not_count(model, batches):
    """A model for which what came before makes no difference passes any comparison."""
    for layer in model.model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
    assert not agrees(model, marked(batches)[0])


def test_interrupting_a_trial_interrupts(model, batches):
    def stop(*_):
        raise KeyboardInterrupt

    model.model.register_forward_pre_hook(stop)
    with contextlib.suppress(KeyboardInterrupt):
        agrees(model, marked(batches)[0])
        pytest.fail("went on")


@pytest.mark.parametrize(
    ("examples", "prefix", "device", "expected"),
    [
        (1, 20, "cpu", False),
        (12, 0, "cpu", False),
        (12, 20, "cpu", True),
        (12, 20, "cuda", False),
        (250, 20, "cuda", True),
    ],
)
def test_what_pays(examples, prefix, device, expected):
    batches = make_batches(alike(examples, prefix), 0, 320)
    assert pays(batches, prefix, device) == expected
