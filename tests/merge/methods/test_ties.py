"""TIES against the three steps of its paper, written down number by number."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from deltas import merged, noise


def naive_trim(delta, density):
    """arXiv 2306.01708, section 4.1: all but the largest become zero."""
    keep = max(1, int(density * len(delta)))
    order = sorted(range(len(delta)), key=lambda i: -abs(delta[i]))
    return [value if i in order[:keep] else 0.0 for i, value in enumerate(delta)]


def naive_elect_and_average(deltas, weights):
    """Sections 4.2 and 4.3: the sign with more mass, and the mean of those that have it."""
    result = []
    for values in zip(*deltas, strict=True):
        mass = [w * v for w, v in zip(weights, values, strict=True)]
        sign = 1 if sum(mass) >= 0 else -1
        agree = [(w, v) for w, v in zip(weights, values, strict=True) if v * sign > 0]
        total = sum(w for w, _ in agree)
        result.append(sum(w * v for w, v in agree) / total if total else 0.0)
    return result


def naive(deltas, weights, density):
    trimmed = [naive_trim(delta.flatten().tolist(), density) for delta in deltas]
    return torch.tensor(naive_elect_and_average(trimmed, weights)).view(deltas[0].shape)


@given(
    st.integers(0, 99),
    st.lists(st.floats(0.1, 3), min_size=1, max_size=4),
    st.floats(0.05, 1),
    st.floats(0.2, 2),
)
def test_ties_is_what_the_paper_says(seed, weights, density, scale):
    deltas = [noise(6, 7, seed=seed + 100 * n) for n in range(len(weights))]
    found = merged("ties", deltas, weights, density=density, scale=scale)
    assert_close(found, scale * naive(deltas, weights, density), rtol=1e-5, atol=1e-6)


def test_without_trimming_and_conflict_it_is_the_mean():
    deltas = [noise(4, 4).abs(), noise(4, 4, seed=1).abs()]
    assert_close(merged("ties", deltas, density=1), (deltas[0] + deltas[1]) / 2)


def test_an_even_vote_is_positive():
    one = torch.tensor([2.0, -3.0])
    assert merged("ties", [one, -one], density=1).tolist() == [2.0, 3.0]


def test_numbers_that_were_trimmed_have_no_part_in_the_mean():
    deltas = [torch.tensor([4.0, 1.0]), torch.tensor([1.0, 8.0])]
    assert merged("ties", deltas, density=0.5).tolist() == [4.0, 8.0]
