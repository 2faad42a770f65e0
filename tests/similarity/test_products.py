"""Inner products from factors are those of the dense deltas, whatever the deltas are made of."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from deltas import noise
from kinds import KINDS, load_kind, save_kind, write_base
from mashup.delta import Delta, Factors, read_delta
from mashup.similarity.products import cosine, delta_inner, inner

#: Kinds of change that PEFT can merge into a model.
TOLD = [
    *("embedding, rsLoRA", "embedding, GPT-2", "saved modules", "all biases", "bias of B"),
    *("token rows", "experts and router", "experts, stored transposed", "everything"),
]


def factors(rank, scale=1.0, experts=1, seed=0):
    A, B = noise(experts * rank, 7, seed=seed), noise(5, rank * experts, seed=seed + 1)
    return Factors(A, B, scale, experts=experts)


ranks, scales = st.integers(1, 4), st.floats(-3, 3)


@given(ranks, ranks, scales, scales, st.sampled_from([1, 3]))
def test_a_product_of_factors_is_that_of_dense_matrices(r1, r2, s1, s2, experts):
    one, other = factors(r1, s1, experts), factors(r2, s2, experts, seed=5)
    expected = (one.dense().double() * other.dense().double()).sum()
    torch.testing.assert_close(inner(one, other), expected, rtol=1e-5, atol=1e-4)


def test_modules_that_one_lacks_count_for_its_norm_alone():
    one = Delta({"q": factors(2), "v": factors(3, seed=2)})
    other = Delta({"v": factors(1, seed=9), "o": factors(2, seed=4)})
    expected = float(inner(one.modules["v"], other.modules["v"]))
    assert delta_inner(one, other) == pytest.approx(expected)
    norms = [sum(float(inner(f, f)) for f in d.modules.values()) for d in (one, other)]
    assert cosine(one, other) == pytest.approx(expected / math.sqrt(norms[0] * norms[1]))


def test_the_angle_does_not_depend_on_scale_and_a_delta_of_nothing_has_none():
    one, more = Delta({"q": factors(2, 0.5)}), Delta({"q": factors(2, 7.0)})
    assert cosine(one, more) == pytest.approx(1)
    assert cosine(one, Delta({"q": factors(2, -1.0)})) == pytest.approx(-1)
    assert cosine(one, Delta({"q": factors(2, 0.0)})) == 0


def flat_change(base, folder):
    """All of ``W - W0`` of a model that PEFT merged, as one vector."""
    old = dict(AutoModelForCausalLM.from_pretrained(base).named_parameters())
    new = load_kind(base, folder).merge_and_unload().named_parameters()
    return torch.cat([(value - old[name]).flatten().double() for name, value in new]).detach()


@pytest.mark.parametrize("kind", TOLD)
def test_a_cosine_is_that_of_the_models_that_peft_merges(tmp_path, kind):
    family, config = KINDS[kind]
    base = write_base(tmp_path / "base", family)
    folders = [save_kind(base, tmp_path / str(seed), seed=seed, **config) for seed in (0, 1)]
    one, other = (flat_change(base, folder) for folder in folders)
    expected = float(one @ other / one.norm() / other.norm())
    stored = AutoModelForCausalLM.from_pretrained(base).state_dict()
    assert cosine(*map(read_delta, folders), stored.get) == pytest.approx(expected, abs=2e-4)
