"""Running a shared prefix once gives the losses of the plain pass."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from kinds import load, load_kind, save_kind, write_base
from mashup.delta import read_delta
from mashup.evaluate.batches import make_batches
from mashup.evaluate.evaluate import evaluate
from mashup.evaluate.prefix import answer_logits, common_prefix, run_prefix
from mashup.model import applied
from mashup.task import Tokens
from samples import alike
from seeing import MAKERS

_FAMILIES = {
    "Llama": ("llama", {}),
    "Gemma 3, windows": ("gemma", {"sliding_window": 24}),
    "Gemma 2, windows and soft-capping": ("gemma2", {"sliding_window": 24}),
    "Mistral, windows": ("mistral", {"sliding_window": 24}),
    "GPT-2": ("gpt2", {}),
    "experts": ("mixtral", {}),
    "sinks": ("gpt-oss", {}),
    **{f"{name}, sees": (name, {}) for name in MAKERS},
}


def marked(batches):
    return tuple(replace(batch, prefix=common_prefix(batches)) for batch in batches)


@pytest.mark.parametrize("family", _FAMILIES)
def test_losses_are_those_of_the_plain_pass(tmp_path, family):
    name, config = _FAMILIES[family]
    model = load(write_base(tmp_path, name, **config))
    batches = make_batches(alike(), 0, 320, size=200)
    assert len(batches) > 2
    plain, shared = evaluate(model, batches), evaluate(model, marked(batches))
    np.testing.assert_allclose(shared.losses, plain.losses, rtol=1e-5)
    np.testing.assert_array_equal(shared.correct, plain.correct)
    np.testing.assert_array_equal(shared.tokens, plain.tokens)


def test_the_prefix_is_that_of_the_adapter_which_is_on(tmp_path):
    base = write_base(tmp_path / "base", "llama")
    folder = save_kind(base, tmp_path / "lora", target_modules=["embed_tokens", "q_proj", "v_proj"])
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    batches = make_batches(alike(), 0, 320, size=200)
    before = evaluate(model, marked(batches))
    with applied(model, read_delta(folder)):
        plain, shared = evaluate(model, batches), evaluate(model, marked(batches))
    np.testing.assert_allclose(shared.losses, plain.losses, rtol=1e-5)
    assert np.abs(shared.losses - before.losses).max() > 0.1
    np.testing.assert_array_equal(evaluate(model, marked(batches)).losses, before.losses)
    peft = evaluate(load_kind(base, folder), marked(batches))
    np.testing.assert_allclose(peft.losses, plain.losses, rtol=1e-4)


def test_fewer_tokens_run(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(write_base(tmp_path, "llama")).eval()
    sizes = []
    model.model.layers[0].register_forward_pre_hook(
        lambda _, inputs: sizes.append(tuple(inputs[0].shape[:2]))
    )
    (batch,) = make_batches(alike(), 0, 320)
    evaluate(model, marked((batch,)))
    assert sizes == [(1, 20), (12, batch.ids.shape[1] - 21)]


def test_copies_run_with_prefixes_of_their_own(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(write_base(tmp_path, "llama")).eval()
    (batch,) = marked(make_batches(alike(), 0, 320))
    with torch.no_grad():
        cache = run_prefix(model, batch, 3)
        found = answer_logits(model, batch, 3, cache)
        expected = answer_logits(model, batch).repeat(3, 1)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(answer_logits(model, batch, 3, cache), found)  # the cache is as it was


@given(st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=9), min_size=1, max_size=6),
       st.integers(1, 40), st.data())  # fmt: skip
def test_the_prefix_is_the_longest_before_any_answer(rows, size, data):
    firsts = [data.draw(st.integers(1, len(row) - 1)) for row in rows]
    tokens = [
        Tokens(tuple(row), tuple(place >= first for place in range(len(row))))
        for row, first in zip(rows, firsts, strict=True)
    ]
    found = common_prefix(make_batches(tokens, 0, 3, size=size))
    limit = min(firsts) - 1
    expected = max(n for n in range(limit + 1) if len({tuple(row[:n]) for row in rows}) == 1)
    assert found == expected


def test_no_batches_have_no_prefix():
    assert common_prefix(()) == 0
