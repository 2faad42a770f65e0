"""slerp and model_stock: angles between deltas."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from deltas import merged, noise
from mashup import merge
from wholes import distance, relative_of, tensors_of, write_whole


@given(st.integers(0, 99), st.floats(0.05, 0.95))
def test_slerp_keeps_the_length_and_shares_the_angle(seed, t):
    one, other = noise(6, 6, seed=seed), noise(6, 6, seed=seed + 100)
    one, other = one / one.norm(), other / other.norm()
    found = merged("slerp", [one, other], [1 - t, t])
    angle = math.acos(float((one * other).sum()))
    assert float(found.norm()) == pytest.approx(1, abs=1e-5)
    assert float((found * one).sum()) == pytest.approx(math.cos(t * angle), abs=1e-5)


@pytest.mark.parametrize(("weights", "which"), [([1.0, 0.0], 0), ([0.0, 1.0], 1)])
def test_slerp_begins_and_ends_at_its_parents(weights, which):
    deltas = [noise(6, 6), noise(6, 6, seed=1)]
    assert_close(merged("slerp", deltas, weights), deltas[which])


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0])
def test_slerp_of_one_line_is_the_mean(factor):
    delta = noise(6, 6)
    found = merged("slerp", [delta, factor * delta], [0.5, 0.5])
    assert_close(found, (1 + factor) / 2 * delta, rtol=1e-4, atol=1e-6)


def naive_stock(deltas):
    """arXiv 2403.19522, equation 5: the ratio t and the mean of the fine-tuned weights.

    Of deltas that point away from each other it is the base: t = 0.
    """
    count = len(deltas)
    cosines = [
        float(torch.cosine_similarity(a.flatten(), b.flatten(), dim=0))
        for i, a in enumerate(deltas)
        for b in deltas[i + 1 :]
    ]
    cosine = max(0.0, sum(cosines) / len(cosines))
    return count * cosine / (1 + (count - 1) * cosine) * torch.stack(deltas).mean(0)


@given(st.integers(0, 99), st.integers(2, 4), st.floats(0.1, 3))
def test_model_stock_is_what_the_paper_says(seed, count, common):
    shared = common * noise(8, 8, seed=seed)
    deltas = [shared + 0.2 * noise(8, 8, seed=seed + 100 * n) for n in range(1, count + 1)]
    found = merged("model_stock", deltas, [1 / count] * count)
    assert_close(found, naive_stock(deltas), rtol=1e-4, atol=1e-5)


def test_model_stock_of_the_same_is_the_same_and_of_opposites_the_base():
    delta, base = noise(8, 8), noise(8, 8, seed=1)
    assert_close(merged("model_stock", [delta, delta], [0.5, 0.5]), delta)
    opposite = merged("model_stock", [delta, -delta], [0.5, 0.5], base=base)
    assert torch.equal(opposite, base)


def test_nearly_opposite_deltas_are_weighed_by_their_angle_not_by_rounding(tiny_base, tmp_path):
    """Near π an arc is long: an angle from float32 products would be off by all of it."""
    base, one = tensors_of(tiny_base), tensors_of(relative_of(tiny_base, tmp_path / "a", seed=1))
    other = tensors_of(relative_of(tiny_base, tmp_path / "tmp", seed=2, size=1e-6))
    opposite = {n: base[n] - (one[n] - base[n]) + (other[n] - base[n]) for n in base}
    write_whole(tmp_path / "b", opposite, tiny_base)
    options = {"method": "slerp", "base": tiny_base, "accept_base": True, "dtype": "float32"}
    init = merge([tmp_path / "a", tmp_path / "b"], output=tmp_path / "m", **options)
    mean = {n: (one[n] + opposite[n]) / 2 for n in base}
    assert distance(tensors_of(init.path), mean) < 1e-6
