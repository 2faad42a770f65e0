"""Knowledge: bits within the set of answers above their prior, whatever the calibration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax

from mashup.evaluate.knowledge import BIAS_SD, LAPSE, SLOPE_SD, calibrate, folds_of, knowledge


def source(labels, answers, strength, *, seed=0, prior=None, mass=0.9):
    """Log-probabilities of a source that leans to the right answer by ``strength`` nats."""
    noise = np.random.default_rng(seed).normal(size=(len(labels), answers))
    logits = noise + strength * np.eye(answers)[labels] + (0 if prior is None else prior)
    return log_softmax(logits, axis=1) + np.log(mass)


def drawn(count, answers, seed=1, shares=None):
    return np.random.default_rng(seed).choice(answers, count, p=shares)


def test_a_source_that_knows_is_told_from_one_that_does_not():
    labels = drawn(96, 3)
    knows = knowledge(source(labels, 3, 4.0), labels)
    blind = knowledge(source(labels, 3, 0.0), labels)
    assert knows.bits > 2 * knows.error
    assert knows.bits > 0.8
    assert abs(blind.bits) < 0.1
    assert knows.bits - blind.bits > 4 * (knows.error + blind.error)


def test_swapped_labels_are_no_knowledge():
    labels = drawn(128, 2)
    swapped = knowledge(source(1 - labels, 2, 4.0), labels)
    assert swapped.bits < 0.05


def test_form_is_what_falls_outside_of_the_set():
    labels = drawn(64, 4)
    found = knowledge(source(labels, 4, 1.0, mass=0.25), labels)
    np.testing.assert_allclose(found.form, 2.0)
    assert found.bits == pytest.approx(knowledge(source(labels, 4, 1.0, mass=1.0), labels).bits)


def test_a_prior_of_its_own_costs_a_source_nothing():
    labels = drawn(256, 2)
    fair = knowledge(source(labels, 2, 3.0), labels)
    biased = knowledge(source(labels, 2, 3.0, prior=np.array([5.0, 0.0])), labels)
    assert biased.bits == pytest.approx(fair.bits, abs=0.02)


def test_overconfidence_is_calibrated_away():
    labels = drawn(256, 2)
    plain = source(labels, 2, 2.0, mass=1.0)
    loud = log_softmax(10 * plain, axis=1)
    assert knowledge(loud, labels).bits == pytest.approx(knowledge(plain, labels).bits, abs=0.02)


def test_knowing_the_prior_is_no_knowledge():
    shares = [0.9, 0.1]
    labels = drawn(200, 2, shares=shares)
    constant = np.tile(np.log(shares), (200, 1))
    assert abs(knowledge(constant, labels).bits) < 0.02


def test_bits_are_near_those_that_are_there():
    """A source that gives the true posterior has the mutual information of prompt and answer."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 4000)
    signal = rng.normal(np.where(labels, 1.0, -1.0), 1.0)
    logits = np.stack([-signal, signal], 1)  # the posterior of two normals: log-odds 2 * signal
    true = 1.0 - np.mean(np.log2(1 + np.exp(-2 * signal * np.where(labels, 1, -1))))
    assert knowledge(log_softmax(logits, axis=1), labels).bits == pytest.approx(true, abs=0.02)


def test_one_confident_mistake_does_not_decide():
    labels = drawn(100, 2)
    logs = source(labels, 2, 12.0)
    wrong = logs.copy()
    wrong[0] = logs[0][::-1]
    found = knowledge(wrong, labels)
    assert found.gained.min() >= np.log2(LAPSE)
    assert found.bits > 0.75


@given(st.integers(2, 60), st.integers(2, 8), st.integers(0, 99), st.floats(-3, 6))
@settings(max_examples=60, deadline=None)
def test_any_sample_gives_finite_bits_below_those_of_the_prior(count, answers, seed, strength):
    labels = drawn(count, answers, seed)
    found = knowledge(source(labels, answers, strength, seed=seed), labels)
    assert found.gained.shape == (count,)
    assert np.isfinite(found.gained).all()
    assert (found.form >= 0).all()
    assert found.bits <= np.log2(count * answers + 1) + 1e-9


def test_an_answer_that_the_sample_lacks_is_possible():
    labels = np.zeros(20, np.intp)
    labels[10:] = 1
    found = knowledge(source(labels, 3, 2.0), labels)
    assert np.isfinite(found.bits)
    assert found.bits > 0


@given(st.integers(1, 50), st.integers(1, 12), st.integers(0, 20))
def test_folds_are_a_partition_with_even_shares(count, folds, seed):
    labels = drawn(count, 3, seed)
    parts = folds_of(labels, folds)
    assert sorted(np.concatenate(parts)) == list(range(count))
    sizes = [np.bincount(labels[part], minlength=3) for part in parts]
    assert (np.ptp(sizes, axis=0) <= 1 + count // folds // 3 + 1).all()


def test_no_example_is_judged_by_what_it_taught():
    """With the right answer alone changed, its prior and calibration stay as they were."""
    labels = drawn(40, 2)
    logs = source(labels, 2, 2.0)
    before = knowledge(logs, labels)
    held = folds_of(labels, 10)[0]
    changed = logs.copy()
    changed[held[0]] = log_softmax(-logs[held[0]])
    after = knowledge(changed, labels)
    others = np.setdiff1d(held, held[:1])
    np.testing.assert_allclose(after.gained[others], before.gained[others], atol=1e-9)


def test_calibration_starts_at_the_prior_and_never_turns_a_source_around():
    labels = drawn(60, 2)
    swapped = source(1 - labels, 2, 3.0)
    found = calibrate(swapped, labels, np.ones((1, 60), dtype=bool))
    assert found.slope[0] == 0.0
    shares = np.bincount(labels) / 60
    np.testing.assert_allclose(np.exp(found.prior[0]), shares, atol=0.01)
    np.testing.assert_allclose(np.exp(found(swapped)[0]), np.tile(shares, (60, 1)), atol=0.02)


@given(
    st.integers(4, 60), st.integers(2, 8), st.integers(0, 99), st.floats(-3, 6), st.floats(0.1, 30)
)
@settings(max_examples=40, deadline=None)
def test_calibration_is_the_minimum_that_a_general_optimiser_finds(
    count, answers, seed, strength, certainty
):
    labels = drawn(count, answers, seed)
    inside = log_softmax(certainty * source(labels, answers, strength, seed=seed), axis=1)
    seen = np.random.default_rng(seed).random((3, count)) < 0.8
    seen[:, :2] = True
    found = calibrate(inside, labels, seen)
    for fit, rows in enumerate(seen):
        some, right = inside[rows], labels[rows]
        centre = some.mean(0)
        centred = some - centre
        spread = np.sqrt(np.square(centred - centred.mean(1, keepdims=True)).mean())
        spread = max(spread, 1e-6)

        def objective(at, fit=fit, centred=centred, spread=spread, right=right):
            logs = log_softmax(found.prior[fit] + at[1:] + at[0] / spread * centred, axis=1)
            penalty = (at[0] / SLOPE_SD) ** 2 + np.square(at[1:] / BIAS_SD).sum()
            return penalty / 2 - logs[np.arange(len(right)), right].sum()

        mine = np.array([found.slope[fit] * spread, *found.shift[fit]])
        bounds = [(0, None), *[(None, None)] * answers]
        other = minimize(objective, np.zeros(1 + answers), method="L-BFGS-B", bounds=bounds)
        assert mine[0] >= 0
        assert objective(mine) <= other.fun + 1e-9
        np.testing.assert_allclose(mine, other.x, atol=2e-2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(bad):
    logs = source(drawn(8, 2), 2, 1.0)
    logs[3, 1] = bad
    with pytest.raises(ValueError, match="not finite"):
        knowledge(logs, drawn(8, 2))
