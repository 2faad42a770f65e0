"""A delta put on the base computes what PEFT computes, and taken off leaves no trace."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config

from helpers import refused, write_adapter
from lora import peft_logits, save_lora, some_ids
from mashup.checkpoint import open_checkpoint
from mashup.delta import Delta, Factors, read_delta
from mashup.model import applied, fit_loaded, load_base, shapes_of

_SHAPES = {
    "alpha is not the rank": {},
    "rsLoRA": {"use_rslora": True},
    "rank pattern": {"rank_pattern": {"q_proj": 2}},
    "alpha pattern": {"alpha_pattern": {"layers.1.self_attn.v_proj": 3}},
    "all linear layers": {"target_modules": "all-linear"},
}


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, dtype="float32")


@pytest.mark.parametrize("config", _SHAPES.values(), ids=_SHAPES.keys())
def test_a_patched_base_computes_what_peft_computes(base, tiny_base, tmp_path, config):
    folder = save_lora(tiny_base, tmp_path / "lora", **config)
    ids = some_ids()
    with torch.no_grad(), applied(base.model, read_delta(folder)):
        patched = base.model(ids).logits
    expected = peft_logits(tiny_base, folder, ids)
    torch.testing.assert_close(patched, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(patched, base.model(ids).logits, atol=1e-2)


def test_weights_stored_transposed_are_patched_the_right_way_round(tmp_path):
    torch.manual_seed(0)
    config = GPT2Config(n_embd=32, n_layer=1, n_head=4, vocab_size=64, n_positions=32)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "gpt2")
    with pytest.warns(UserWarning, match="fan_in_fan_out"):
        folder = save_lora(tmp_path / "gpt2", tmp_path / "lora", target_modules=["c_attn"])
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2").eval()
    ids = some_ids(64)
    opened = open_checkpoint(folder)
    assert fit_loaded(opened, shapes_of(model), model, accept_base=True).problems == ()
    with torch.no_grad(), applied(model, read_delta(folder)):
        patched = model(ids).logits
    torch.testing.assert_close(
        patched, peft_logits(tmp_path / "gpt2", folder, ids), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_base_is_bit_identical_after_many_deltas_and_a_failure(tiny_base, tmp_path, dtype):
    base = load_base(tiny_base, dtype=dtype)
    before, ids = load_digest(base), some_ids()
    with torch.no_grad():
        expected = base.model(ids).logits
        for seed in range(3):
            delta = read_delta(save_lora(tiny_base, tmp_path / str(seed), seed=seed))
            with applied(base.model, delta):
                assert not torch.equal(base.model(ids).logits, expected)
        with pytest.raises(KeyboardInterrupt), applied(base.model, delta):
            raise KeyboardInterrupt
        assert torch.equal(base.model(ids).logits, expected)
    assert load_digest(base) == before


def test_small_deltas_survive_in_bfloat16():
    """Added into a bfloat16 weight, a delta of this size is off by a third and more.

    Rounding of outputs is noise that differs from token to token; rounding of weights is not.
    So the delta that acts is fitted over many tokens.
    """
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64, bias=False)).bfloat16()
    factors = Factors(torch.randn(8, 64) / 14, torch.randn(64, 8) / 1600, 2.0)
    x, weight = torch.randn(20_000, 64).bfloat16(), model[0].weight.detach().float()
    with torch.no_grad(), applied(model, Delta({"0": factors})):
        change = model(x).float() - x.float() @ weight.T
    beside = torch.linalg.lstsq(x.float(), change).solution.T
    added = (weight + factors.dense()).bfloat16().float() - weight

    def error(found):
        return float((found - factors.dense()).norm() / factors.dense().norm())

    assert error(added) > 0.3
    assert error(beside) < 0.1


def load_digest(base):
    from mashup.model.base import weights_digest

    return weights_digest(base.model)


def test_a_delta_with_an_unknown_module_changes_nothing_and_says_which(base):
    known = "model.layers.0.self_attn.q_proj"
    some = Factors(torch.ones(1, 32), torch.ones(32, 1), 1.0)
    before = load_digest(base)
    with (
        refused("no such module in the base", where="nowhere"),
        applied(base.model, Delta({known: some, "nowhere": some})),
    ):
        pass
    assert load_digest(base) == before


@pytest.mark.parametrize(
    ("modules", "what"),
    [
        ({"model.layers.0.self_attn.q_proj": (16, 16)}, "adapter of another base"),
        ({"model.layers.7.self_attn.q_proj": (32, 32)}, "adapter of another base"),
        (
            {
                "model.layers.0.self_attn.q_proj": (32, 32),
                "model.layers.0.self_attn.x_proj": (32, 32),
            },
            "tensors without a place",
        ),
    ],
)
def test_modules_that_do_not_fit_are_told(base, tmp_path, modules, what):
    folder = write_adapter(tmp_path / "a", modules=modules)
    opened, shapes = open_checkpoint(folder), shapes_of(base.model)
    (problem,) = fit_loaded(opened, shapes, base.model, accept_base=True).problems
    assert problem.what == what
    assert problem.where == str(folder)


def test_a_tied_head_is_adapted_and_the_embeddings_are_not():
    torch.manual_seed(0)
    config = GPT2Config(n_embd=32, n_layer=1, n_head=4, vocab_size=64, n_positions=32)
    model = AutoModelForCausalLM.from_config(config).eval()
    factors, ids = Factors(torch.randn(2, 32), torch.randn(64, 2), 0.5), some_ids(64)
    with torch.no_grad():
        before, hidden = model(ids).logits, model.transformer(ids).last_hidden_state
        with applied(model, Delta({"lm_head": factors})):
            found = model(ids).logits
            assert torch.equal(model.transformer(ids).last_hidden_state, hidden)
    torch.testing.assert_close(found, before + hidden @ factors.dense().T, rtol=1e-4, atol=1e-4)
