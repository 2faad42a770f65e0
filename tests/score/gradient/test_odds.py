"""Log-odds that are linear along donors: a logistic regression with weights of at least zero."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mashup._score.gradient.odds import Odds, best_weights

numbers = st.floats(-3, 3, width=32)


@st.composite
def samples(draw):
    """Summed losses ``(n,)`` and their slopes ``(n, N)``."""
    n, count = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    losses = draw(arrays(float, n, elements=st.floats(0.01, 8)))
    return losses, draw(arrays(float, (n, count), elements=numbers))


@given(samples(), st.integers(1, 20))
def test_at_the_point_it_has_the_losses_and_slopes_that_it_was_made_of(sample, tokens):
    losses, slopes = sample
    odds, none = Odds.of(losses, slopes, tokens), np.zeros(slopes.shape[1])
    assert odds.loss(none) == pytest.approx(losses.sum() / tokens, rel=1e-6)
    slope, _ = odds.quadratic(none)
    np.testing.assert_allclose(slope, slopes.sum(0) / tokens, rtol=1e-6, atol=1e-9)


@given(samples(), st.data())
def test_slope_and_curvature_are_those_of_the_predicted_loss(sample, data):
    losses, slopes = sample
    odds = Odds(losses, slopes, 3)
    step = data.draw(arrays(float, slopes.shape[1], elements=st.floats(-0.5, 0.5)))
    slope, curvature = odds.quadratic(step)
    h = 1e-4
    for i, unit in enumerate(np.eye(len(step)) * h):
        ahead, back = odds.loss(step + unit), odds.loss(step - unit)
        assert slope[i] == pytest.approx((ahead - back) / (2 * h), abs=1e-6)
        change = odds.quadratic(step + unit)[0] - odds.quadratic(step - unit)[0]
        np.testing.assert_allclose(curvature[i], change / (2 * h), atol=1e-5)


@given(samples())
def test_whole_steps_of_many_donors_are_those_of_each(sample):
    losses, slopes = sample
    odds = Odds.of(losses, slopes, 2)
    units = np.eye(slopes.shape[1])
    each = [odds.loss(unit) for unit in units]
    np.testing.assert_allclose(odds.loss(units), each)


@given(samples(), st.sampled_from([0.01, 0.1, 1.0]))
def test_no_small_move_improves_the_best_weights(sample, ridge):
    losses, slopes = sample
    odds = Odds(np.log(np.expm1(losses)), slopes, 2)
    at = np.full(slopes.shape[1], 1 / slopes.shape[1])
    w = best_weights(odds, at, ridge)
    _, curvature = odds.quadratic(np.zeros(len(at)))
    pull = max(ridge * np.diag(curvature).mean(), 1e-12)
    slope = odds.quadratic(w - at)[0] + pull * (w - at)
    assert (w >= 0).all()
    assert (slope >= -1e-4).all()  # Karush, Kuhn, Tucker
    np.testing.assert_allclose(slope * w, 0, atol=1e-4)


def test_a_certain_answer_has_finite_odds():
    odds = Odds.of(np.array([0.0, 1e-12, 700.0]), np.ones((3, 1)), 3)
    assert np.isfinite(odds.start).all()
    assert np.isfinite(odds.along).all()
    assert np.isfinite(odds.loss(np.ones(1)))


def test_a_donor_that_answers_wrongly_gets_nothing():
    odds = Odds(np.zeros(4), np.array([[2.0, -1.0]] * 4), 4)
    assert best_weights(odds, np.array([0.5, 0.5]), 0.1)[1] == 0
