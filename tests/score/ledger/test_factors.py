import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mashup._score.ledger import learn


def low_rank(seed, donors=40, tasks=20, rank=2):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(donors, rank)) @ rng.normal(size=(rank, tasks)) + rng.normal(size=tasks)


@given(st.integers(0, 10_000))
def test_tasks_in_other_units_give_the_same_factors(seed):
    history, rng = low_rank(seed), np.random.default_rng(seed)
    other = history * rng.uniform(0.01, 100, 20) + rng.normal(size=20)
    one, two = learn(history), learn(other)
    np.testing.assert_allclose(one.past, two.past, atol=1e-6)
    np.testing.assert_allclose(one.values @ one.values.T, two.values @ two.values.T, atol=1e-5)


def test_factors_and_noise_of_a_donor_add_up_to_the_variance_of_a_task():
    history = np.random.default_rng(0).normal(size=(200, 30))
    factors = learn(history)
    total = (factors.values**2).sum(axis=1) + factors.noise
    assert total.mean() == pytest.approx(1, abs=0.1)


def test_a_donor_that_was_never_measured_has_no_factors_and_the_largest_noise():
    history = low_rank(0)
    history[7] = np.nan
    factors = learn(history)
    assert not factors.values[7].any()
    assert factors.noise.argmax() == 7
    assert factors.noise[7] == pytest.approx(1, abs=0.1)
    assert np.delete(factors.noise, 7).max() < 0.01


def test_a_donor_that_goes_its_own_way_has_more_noise():
    history = low_rank(0)
    history[7] += np.random.default_rng(0).normal(size=20)
    assert learn(history).noise.argmax() == 7


def test_missing_entries_of_a_low_rank_ledger_are_made_up_for():
    history = low_rank(1, donors=100, tasks=40)
    holes = np.where(np.random.default_rng(1).random(history.shape) < 0.2, np.nan, history)
    full, less = learn(history), learn(holes)
    gram, other = full.values @ full.values.T, less.values @ less.values.T
    assert np.corrcoef(gram.ravel(), other.ravel())[0, 1] > 0.99


def test_a_task_on_which_only_the_better_half_was_measured_is_not_centred_on_it():
    history = low_rank(2, donors=200, tasks=40, rank=3)
    half = history.copy()
    worse = history[:, 0] < np.median(history[:, 0])
    half[worse, 0] = np.nan
    assert np.nanmean(learn(half).past[:, 0]) > 0.3
    assert np.nanmean(learn(history).past[:, 0]) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "history",
    [
        np.empty((5, 0)),
        np.empty((0, 3)),
        np.full((5, 3), 0.25),
        np.full((5, 3), np.nan),
        np.where(np.eye(5) > 0, 1.0, np.nan),
    ],
    ids=["no tasks", "no donors", "all equal", "all unknown", "one known a task"],
)
def test_a_ledger_that_says_nothing_gives_no_factors(history):
    factors = learn(history)
    assert factors.values.shape == (len(history), 0)
    assert factors.past.shape == (len(history), 0)
    np.testing.assert_allclose(factors.noise, 1)
