"""Slopes are what autograd and differences of the loss say, whatever the batches and the point."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from helpers import prompt_rows, refused
from kinds import save_kind, write_base
from lora import mean_logits, some_ids
from mashup._score.slopes import BASE, mean_of, moved, slopes_at, weighted_sum
from mashup.delta import Delta, Factors, read_delta
from mashup.evaluate.batches import make_batches
from mashup.evaluate.evaluate import evaluate
from mashup.evaluate.prefix import answer_logits
from mashup.model import applied, load_base
from mashup.task import Example, tokenize

VOCABULARY = 320
#: Of differences to the fourth order: the loss bends a lot along some donors.
STEP = 0.02


@pytest.fixture(scope="module")
def base(tiny_base):
    """In float64, so that differences of losses are exact enough to compare with."""
    return load_base(tiny_base, dtype="float64")


@pytest.fixture(scope="module")
def tokens(base):
    examples = [Example.of(row["prompt"] * (1 + n % 3), row["completion"] * (1 + n % 2))
                for n, row in enumerate(prompt_rows(9))]  # fmt: skip
    return tokenize(base.tokenizer, examples, max_length=512)


@pytest.fixture(scope="module")
def batches(tokens):
    return make_batches(tokens, 0, VOCABULARY, size=300)


@pytest.fixture(scope="module")
def donors(tiny_base, tmp_path_factory):
    """Of different ranks and modules, the head among them."""
    root = tmp_path_factory.mktemp("donors")
    places = [["q_proj", "down_proj"], ["q_proj", "v_proj", "lm_head"], ["q_proj", "up_proj"]]
    settings = [{}, {"r": 2}, {"use_rslora": True}]
    return [
        save_kind(tiny_base, root / str(n), seed=n, target_modules=names, **more)
        for n, (names, more) in enumerate(zip(places, settings, strict=True))
    ]


def slope_by_autograd(model, batches, delta, point=BASE):
    """Derivative in t at 0 of the loss of base + point + t·delta, as a graph through t."""
    t = torch.zeros((), dtype=model.dtype, requires_grad=True)
    along = {n: t * factors.dense().to(model.dtype) for n, factors in delta.modules.items()}
    with moved(model, point), moved(model, along):
        losses = [cross_entropy(answer_logits(model, b), b.ids[b.answer]) for b in batches]
    total = sum(int(batch.answer.sum()) for batch in batches)
    return float(torch.autograd.grad(sum(losses), t)[0]) / total


def cross_entropy(logits, targets):
    return nn.functional.cross_entropy(logits, targets, reduction="sum")


@pytest.mark.parametrize("size", [1, 300, 100_000])
@pytest.mark.parametrize("at_mean", [False, True])
def test_slopes_are_those_of_autograd_whatever_the_batches(
    base, tokens, batches, donors, at_mean, size
):
    point = mean_of(donors) if at_mean else BASE
    deltas = [read_delta(folder) for folder in donors]
    found = slopes_at(
        base.model, make_batches(tokens, 0, VOCABULARY, size=size), deltas, point=point
    )
    expected = [slope_by_autograd(base.model, batches, delta, point) for delta in deltas]
    np.testing.assert_allclose(found.mean, expected, rtol=1e-3, atol=1e-5)


def test_slopes_are_differences_of_the_loss(base, batches, donors):
    point, deltas = mean_of(donors), [read_delta(folder) for folder in donors]
    found = slopes_at(base.model, batches, deltas, point=point)
    for slope, delta in zip(found.mean, deltas, strict=True):
        loss = [loss_beside(base, batches, point, delta, n * STEP) for n in (-2, -1, 1, 2)]
        expected = (8 * (loss[2] - loss[1]) - (loss[3] - loss[0])) / (12 * STEP)
        assert slope == pytest.approx(expected, rel=2e-3)
    assert found.losses.mean == pytest.approx(loss_beside(base, batches, point, delta, 0.0))


def test_each_example_has_the_slopes_that_it_has_alone(base, tokens, batches, donors):
    deltas = [read_delta(folder) for folder in donors]
    found = slopes_at(base.model, batches, deltas, point=mean_of(donors))
    assert found.each.shape == (len(tokens), len(donors))
    for row, example in enumerate(tokens):
        alone = make_batches([example], 0, VOCABULARY)
        one = slopes_at(base.model, alone, deltas, point=mean_of(donors))
        np.testing.assert_allclose(found.each[row], one.each[0], rtol=1e-3, atol=1e-5)
        assert found.losses.sums[row] == pytest.approx(one.losses.sums[0])


def loss_beside(base, batches, point, delta, t):
    """Loss of base + point + t·delta, by the hooks that evaluation uses."""
    moved_on = Delta({n: Factors(f.A, f.B, t * f.scale, f.kind) for n, f in delta.modules.items()})
    with moved(base.model, point), applied(base.model, moved_on):
        return evaluate(base.model, batches).loss


def test_the_mean_computes_what_averaging_merged_models_computes(tiny_base, donors):
    model, ids = load_base(tiny_base, dtype="float32").model, some_ids()
    with torch.no_grad(), moved(model, mean_of(donors)):
        found = model(ids).logits
    expected = mean_logits(tiny_base, donors, ids)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gemma", "gpt2"])
def test_a_point_of_one_donor_computes_the_donor_in_factors_and_dense(tmp_path, family):
    names = ["wte", "c_attn"] if family == "gpt2" else ["embed_tokens", "q_proj"]
    start = write_base(tmp_path / "base", family)
    settings = {"target_modules": names, "fan_in_fan_out": family == "gpt2"}
    folder = save_kind(start, tmp_path / "lora", **settings)
    model, ids, delta = load_model(start), some_ids(), read_delta(folder)
    with torch.no_grad(), applied(model, delta):
        expected = model(ids).logits
    dense = {name: factors.dense() for name, factors in delta.modules.items()}
    for point in (mean_of([folder]), dense):
        with torch.no_grad(), moved(model, point):
            torch.testing.assert_close(model(ids).logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["gemma", "gpt2"])
def test_scaled_embeddings_and_transposed_weights_have_the_right_slopes(tmp_path, family, tokens):
    names = ["wte", "c_attn"] if family == "gpt2" else ["embed_tokens", "q_proj"]
    start = write_base(tmp_path / "base", family)
    settings = {"target_modules": names, "fan_in_fan_out": family == "gpt2"}
    folder = save_kind(start, tmp_path / "lora", **settings)
    short = [t for t in tokens if len(t.ids) < 100]
    batches = make_batches(short, 0, VOCABULARY)
    model, delta = load_model(start).double(), read_delta(folder)
    expected = slope_by_autograd(model, batches, delta)
    assert slopes_at(model, batches, [delta]).mean[0] == pytest.approx(expected, rel=1e-3)


def load_model(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def test_the_model_is_as_it_was(base, batches, donors):
    wanted = [p.requires_grad for p in base.model.parameters()]
    base.model.train()
    slopes_at(base.model, batches, [read_delta(f) for f in donors], point=mean_of(donors))
    assert base.model.training
    assert [p.requires_grad for p in base.model.parameters()] == wanted
    assert all(p.grad is None for p in base.model.parameters())
    assert not any(m._forward_hooks for m in base.model.modules())
    base.model.eval()


def test_a_module_that_the_base_does_not_have_is_told(base, batches):
    with refused("no such module in the base", where="nowhere"):
        slopes_at(
            base.model,
            batches,
            [Delta({"nowhere": Factors(torch.ones(1, 2), torch.ones(2, 1), 1.0)})],
        )
    with refused("no such module in the base", where="nowhere"), moved(
        base.model, {"nowhere": torch.zeros(2, 2)}
    ):  # fmt: skip
        pass


def test_a_donor_without_some_modules_has_no_slope_there(base, batches, donors):
    nothing = slopes_at(base.model, batches, [Delta({}), read_delta(donors[0])])
    assert not nothing.each[:, 0].any()
    assert nothing.each[:, 1].all()


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=12), st.integers(1, 5))
def test_weighted_sums_are_exact_in_factors_and_multiplied_out(weights, rank):
    from mashup._score.slopes import _plus

    generator = torch.Generator().manual_seed(0)
    total, expected = None, torch.zeros(6, 8)
    for weight in weights:
        right, left = (torch.randn(s, generator=generator) for s in ((rank, 8), (6, rank)))
        factors = Factors(right, left, 0.5)
        total, expected = _plus(total, factors, weight), expected + weight * factors.dense()
    found = total if isinstance(total, torch.Tensor) else total.dense()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert isinstance(total, torch.Tensor) == (rank * len(weights) * 14 > 48)


def test_donors_of_weight_zero_are_not_read(donors, tmp_path):
    found = weighted_sum([donors[0], tmp_path / "gone"], [1.0, 0.0])
    assert found.keys() == read_delta(donors[0]).modules.keys()
    assert BASE == {}
