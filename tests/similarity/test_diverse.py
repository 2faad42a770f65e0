"""Fit against difference, as mathematics."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mashup.similarity.clusters import cosine_rows
from mashup.similarity.diverse import marginal, relative


def drawn(seed, count):
    """Losses without ties and the matrix of cosines of random directions in space."""
    generator = np.random.default_rng(seed)
    row = cosine_rows(generator.standard_normal((count, 3)).astype(np.float32))
    return generator.random(count), np.stack([row(index) for index in range(count)])


seeds, counts, ks = st.integers(0, 999), st.integers(1, 12), st.integers(1, 5)


@given(seeds, counts, ks)
def test_without_diversity_it_is_the_ranking(seed, count, k):
    lost, cosines = drawn(seed, count)
    assert marginal(lost, cosines.__getitem__, k, 0.0) == np.argsort(lost)[:k].tolist()


@given(seeds, counts, ks, st.floats(0, 3))
def test_the_order_of_the_candidates_does_not_matter(seed, count, k, diversity):
    lost, cosines = drawn(seed, count)
    order = np.random.default_rng(seed + 1).permutation(count)
    turned = cosines[np.ix_(order, order)]
    found = order[marginal(lost[order], turned.__getitem__, k, diversity)]
    assert found.tolist() == marginal(lost, cosines.__getitem__, k, diversity)


@given(seeds, st.integers(2, 12))
def test_a_high_price_takes_the_best_and_then_the_least_similar(seed, count):
    lost, cosines = drawn(seed, count)
    first, second = marginal(lost, cosines.__getitem__, 2, 1e9)
    assert first == np.argmin(lost)
    others = [index for index in range(count) if index != first]
    likeness = np.maximum(cosines[first], 0)
    least = min(likeness[index] for index in others)
    ties = [index for index in others if likeness[index] == least]
    assert second == min(ties, key=lost.__getitem__)  # of those that point apart the fittest


@given(seeds, counts, ks, st.floats(0, 3))
def test_nobody_is_chosen_twice(seed, count, k, diversity):
    lost, cosines = drawn(seed, count)
    found = marginal(lost, cosines.__getitem__, k, diversity)
    assert len(set(found)) == len(found) == min(k, count)


def test_diversity_is_the_share_of_the_gain_that_a_right_angle_is_worth():
    lost = relative(np.array([1.0, 1.2, 1.4]), base=2.0)
    np.testing.assert_allclose(lost, [0, 0.2, 0.4])
    cosines = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    assert marginal(lost, cosines.__getitem__, 2, 0.19) == [0, 1]
    assert marginal(lost, cosines.__getitem__, 2, 0.21) == [0, 2]


@given(st.floats(0.1, 10), st.floats(-5, 5))
def test_units_and_origin_of_the_loss_do_not_matter(unit, origin):
    losses = np.array([1.0, 1.5, 1.25])
    found = relative(unit * losses + origin, unit * 2 + origin)
    np.testing.assert_allclose(found, [0, 0.5, 0.25], atol=1e-9)


def test_no_gain_at_all_loses_nothing():
    assert relative(np.array([1.0, 1.0]), base=1.0).tolist() == [0, 0]
