"""dare_linear, dare_ties and della: drawn, but right on average, and as their papers say."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from deltas import merged, noise
from mashup._merge.algebra import generator_for

SEEDS = 2000


def mean_over_seeds(method, delta, **settings):
    drawn = [merged(method, [delta], seed=seed, **settings) for seed in range(SEEDS)]
    return torch.stack(drawn).mean(0)


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties", "della"])
@pytest.mark.parametrize("density", [0.3, 0.8])
def test_the_mean_over_seeds_is_the_delta(method, density):
    delta = noise(4, 8)
    found = mean_over_seeds(method, delta, density=density, epsilon=0.1)
    least = density - 0.1 if method == "della" else density
    error = delta.abs() * math.sqrt((1 - least) / least / SEEDS)  # of a mean of Bernoulli draws
    assert bool(((found - delta).abs() < 4.5 * error + 1e-6).all())


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_drops_a_share_and_divides_what_it_keeps(method):
    delta = noise(64, 64)
    found = merged(method, [delta], density=0.3)
    kept = found != 0
    assert float(kept.float().mean()) == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 4096))
    assert_close(found[kept], delta[kept] / 0.3)


def test_della_drops_small_numbers_more_often():
    delta = noise(2, 64)
    kept = torch.stack([merged("della", [delta], seed=n) != 0 for n in range(SEEDS)])
    share = kept.float().mean(0)
    order = delta.abs().argsort(dim=-1)
    wanted = torch.empty_like(delta).scatter_(-1, order, torch.linspace(0.4, 0.6, 64).expand(2, 64))
    assert bool(((share - wanted).abs() < 5 * 0.5 / math.sqrt(SEEDS)).all())


def naive_della(delta, density, epsilon, generator):
    """arXiv 2406.11617, section 3.1: ranks in each row, probabilities linear in the rank."""
    draws = torch.rand(delta.shape, generator=generator)
    made = torch.zeros_like(delta)
    for i, row in enumerate(delta.tolist()):
        ranks = sorted(range(len(row)), key=lambda j: abs(row[j]))
        for rank, j in enumerate(ranks):
            low, high = density - epsilon, min(1.0, density + epsilon)
            chance = low + (high - low) * rank / (len(row) - 1)
            made[i, j] = row[j] / chance if draws[i, j] < chance else 0.0
    return made


@given(st.integers(0, 50), st.floats(0.2, 0.99), st.floats(0, 0.19))
def test_della_is_what_the_paper_says(seed, density, epsilon):
    delta = noise(5, 9, seed=seed)
    found = merged("della", [delta], density=density, epsilon=epsilon, seed=seed)
    generator = generator_for(seed, "t:parent 0")
    expected = naive_della(delta, density, epsilon, generator)
    assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "same"),
    [("dare_linear", "task_arithmetic"), ("dare_ties", "ties"), ("della", "ties")],
)
def test_at_density_one_nothing_is_drawn(method, same):
    deltas = [noise(8, 8, seed=n) for n in range(3)]
    found = merged(method, deltas, [0.5, 1.0, 2.0], density=1)
    assert_close(found, merged(same, deltas, [0.5, 1.0, 2.0], density=1))


def test_parents_are_dropped_independently():
    same = noise(64, 64)
    found = merged("dare_linear", [same, same], density=0.5)
    both = found / same
    shares = [float((both.round() == n).float().mean()) for n in (0, 2, 4)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
