"""The k largest magnitudes, found from histograms: those that a sort finds, exactly k."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deltas import float32s, merged, noise
from mashup._merge.methods.magnitude import largest


def in_pieces(delta, size):
    return lambda: iter(delta.split(size))


def kept_by_sorting(delta, k):
    """Largest first; of equal ones those that come first."""
    order = sorted(range(len(delta)), key=lambda i: (-abs(float(delta[i])), i))
    mask = torch.zeros(len(delta), dtype=torch.bool)
    mask[order[:k]] = True
    return mask


@given(float32s(), st.data())
def test_they_are_those_of_a_sort_whatever_the_pieces(delta, data):
    k = data.draw(st.integers(1, len(delta)))
    size = data.draw(st.integers(1, len(delta)))
    keep = largest(in_pieces(delta, size), k)
    found = torch.cat([keep.mask(piece) for piece in delta.split(size)])
    assert torch.equal(found, kept_by_sorting(delta, k))


@given(float32s(2), st.data())
def test_the_threshold_is_that_of_topk(delta, data):
    k = data.draw(st.integers(1, len(delta)))
    keep = largest(in_pieces(delta, len(delta)), k)
    assert keep.threshold == float(delta.abs().topk(k).values[-1])


@pytest.mark.parametrize("k", [1, 7, 500, 999, 1000])
@pytest.mark.parametrize("scale", [1e-42, 1e-38, 1.0, 1e38])
def test_exactly_k_are_kept_of_many(k, scale):
    delta = (noise(1000, seed=k) * 0.1 * scale).float()
    keep = largest(in_pieces(delta, 64), k)
    assert sum(int(keep.mask(piece).sum()) for piece in delta.split(64)) == k


def test_of_ties_the_first_are_kept():
    keep = largest(in_pieces(torch.ones(6), 2), 3)
    found = torch.cat([keep(piece) for piece in torch.ones(6).split(2)])
    assert found.tolist() == [1, 1, 1, 0, 0, 0]


@given(st.floats(0.05, 1.0), st.integers(0, 9))
def test_a_delta_of_float64_keeps_its_share_too(density, seed):
    delta = noise(5, 8, seed=seed, dtype=torch.float64)
    found = merged("ties", [delta], density=density)
    assert int((found != 0).sum()) == max(1, math.floor(density * 40))
