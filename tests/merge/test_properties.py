"""Laws that merges obey: identity, linearity, permutation, scale, rows in pieces."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from deltas import float32s, merged, noise
from mashup._merge import changes
from mashup._merge.methods import METHODS

WHOLE = [name for name in METHODS if name not in ("greedy_soup", "factor_average")]
SUMS = ["linear", "task_arithmetic"]
FIXED = [name for name in WHOLE if "seed" not in METHODS[name].takes]
WEIGHT = st.floats(-2, 2).filter(lambda weight: abs(weight) > 0.01)


def parents(method, seed=0, most=3):
    count = min(most, METHODS[method].parents[1])
    shared = noise(6, 8, seed=seed + 1000)
    return [shared + noise(6, 8, seed=seed + n) for n in range(count)]


@given(float32s())
def test_identity_to_the_bit(value):
    for method in SUMS:
        base = torch.zeros_like(value)
        made = merged(method, [value], base=base)
        assert torch.equal(made.view(torch.int32), (base + value).view(torch.int32))


@given(st.lists(WEIGHT, min_size=2, max_size=4), WEIGHT, st.integers(0, 99))
def test_linear_in_weights(weights, factor, seed):
    deltas = [noise(5, 4, seed=seed + n) for n in range(len(weights))]
    once = merged("linear", deltas, weights)
    scaled = merged("linear", deltas, [factor * weight for weight in weights])
    assert_close(scaled, factor * once, rtol=1e-4, atol=1e-5)
    parts = [merged("linear", [d], [w]) for d, w in zip(deltas, weights, strict=True)]
    assert_close(once, torch.stack(parts).sum(0), rtol=1e-4, atol=1e-5)


@given(st.lists(WEIGHT, min_size=2, max_size=4), WEIGHT, st.integers(0, 99))
def test_linear_in_deltas(weights, factor, seed):
    one, other = ([noise(5, 4, seed=seed + n) for n in range(k, k + len(weights))] for k in (0, 50))
    both = [factor * a + b for a, b in zip(one, other, strict=True)]
    expected = factor * merged("linear", one, weights) + merged("linear", other, weights)
    assert_close(merged("linear", both, weights), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", FIXED)
@given(st.integers(0, 99), st.permutations(range(3)))
def test_permutation(method, seed, order):
    deltas = parents(method, seed)
    order = [i for i in order if i < len(deltas)]
    weights = [0.2, 0.3, 0.5][: len(deltas)]
    moved = merged(method, [deltas[i] for i in order], [weights[i] for i in order])
    assert_close(moved, merged(method, deltas, weights))


@pytest.mark.parametrize("method", FIXED)
@given(st.integers(0, 99), st.sampled_from([0.25, 2.0, 8.0]))
def test_as_the_deltas_grow_so_does_the_merge(method, seed, factor):
    deltas = parents(method, seed)
    larger = merged(method, [factor * delta for delta in deltas])
    assert_close(larger, factor * merged(method, deltas), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", WHOLE)
@given(st.integers(0, 99), st.floats(0.2, 3))
def test_scale_is_a_factor_on_the_merged_delta(method, seed, scale):
    deltas, base = parents(method, seed), noise(6, 8, seed=seed + 500)
    plain = merged(method, deltas, base=base, seed=seed) - base
    scaled = merged(method, deltas, base=base, seed=seed, scale=scale) - base
    assert_close(scaled, scale * plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", WHOLE)
def test_the_base_is_where_deltas_are_measured_from_and_added_to(method):
    deltas, base = parents(method), noise(6, 8, seed=77)
    moved = merged(method, deltas, base=base) - base
    assert_close(moved, merged(method, deltas), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", FIXED)
@pytest.mark.parametrize("size", [8, 24, 1 << 19])
def test_pieces_of_rows_do_not_matter(method, size, monkeypatch):
    deltas = parents(method)
    whole = merged(method, deltas)
    monkeypatch.setattr(changes, "CHUNK", size)
    assert_close(merged(method, deltas), whole)


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 1), (2, 3, 4)])
@pytest.mark.parametrize("method", WHOLE)
def test_tensors_of_any_shape(method, shape):
    delta = noise(*shape)
    deltas = [delta] * min(3, METHODS[method].parents[1])
    made = merged(method, deltas, [1 / len(deltas)] * len(deltas), density=1)
    assert_close(made, delta)
