"""Newton steps minimise the quadratic model over weights of at least zero."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mashup._score.gradient import greedy_subset, newton_step, single_gains
from mashup._score.gradient.newton import gain

numbers = st.floats(-3, 3, width=32)


@st.composite
def models(draw):
    """Slopes and a curvature that is positive definite and not nearly singular."""
    n = draw(st.integers(1, 5))
    each = draw(arrays(float, (7, n), elements=numbers))
    return draw(arrays(float, n, elements=numbers)), each.T @ each + np.eye(n)


@given(models())
def test_no_other_weights_are_better(model):
    g, H = model
    w = newton_step(g, H)
    slope = g + H @ w
    assert (w >= 0).all()
    assert (slope >= -1e-6).all()  # Karush, Kuhn, Tucker
    np.testing.assert_allclose(slope * w, 0, atol=1e-6)


@given(models())
def test_it_is_the_free_minimum_where_that_is_positive(model):
    g, H = model
    free = -np.linalg.solve(H, g)
    if (free > 0).all():
        np.testing.assert_allclose(newton_step(g, H), free, rtol=1e-5, atol=1e-7)
    assert gain(g, H, newton_step(g, H)) >= gain(g, H, free) - 1e-9


@given(models())
def test_gains_of_single_donors_are_those_of_their_best_step(model):
    g, H = model
    for i, found in enumerate(single_gains(g, H)):
        one = g[[i]], H[np.ix_([i], [i])]
        assert found == pytest.approx(gain(*one, newton_step(*one)), abs=1e-9)


@given(models(), st.integers(1, 4))
def test_a_greedy_subset_never_repeats_and_helps_with_each_donor(model, k):
    g, H = model
    chosen = greedy_subset(g, H, k)
    assert len(set(chosen)) == len(chosen) <= k
    values = [
        gain(g[p], H[np.ix_(p, p)], newton_step(g[p], H[np.ix_(p, p)]))
        for p in itertools.accumulate([i] for i in chosen)
    ]
    assert all(later < earlier for earlier, later in itertools.pairwise([0.0, *values]))


def test_a_copy_is_not_chosen_where_a_different_donor_helps():
    g = np.array([-1.0, -0.99, -0.5])
    H = np.array([[1, 0.999, 0], [0.999, 1, 0], [0, 0, 1.0]])
    assert greedy_subset(g, H, 2) == [0, 2]


def test_nothing_is_chosen_where_nothing_helps():
    assert greedy_subset(np.array([1.0, 0.0]), np.eye(2), 2) == []
    assert newton_step(np.array([1.0, 0.0]), np.eye(2)).tolist() == [0, 0]
