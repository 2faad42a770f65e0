import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mashup._score.ledger import choose, landmarks, learn, predict


def tasks_of(seed, donors=60, tasks=25, rank=2):
    """An exactly low-rank ledger, and a new task of the same kind."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(donors, rank)) @ rng.normal(size=(rank, tasks + 1))
    values = values * rng.uniform(0.1, 10, tasks + 1) + rng.normal(size=tasks + 1)
    return values[:, :-1], values[:, -1]


def lookup(values):
    return lambda donors: [values[donor] for donor in donors]


@given(st.integers(0, 10_000))
def test_a_low_rank_task_is_recovered_from_a_few_donors(seed):
    history, new = tasks_of(seed)
    factors = learn(history)
    observed = {donor: new[donor] for donor in landmarks(factors, 6)}
    mean, _ = predict(factors, observed)
    np.testing.assert_allclose(mean, new, atol=0.02 * np.ptp(new))


@given(st.integers(0, 10_000))
def test_the_order_of_donors_and_of_tasks_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    history = rng.normal(size=(30, 12)) + rng.normal(size=(30, 1))
    new = rng.normal(size=30)
    order, tasks = rng.permutation(30), rng.permutation(12)
    mean, error = predict(learn(history), {donor: new[donor] for donor in range(8)})
    place = {donor: int(np.flatnonzero(order == donor)[0]) for donor in range(8)}
    observed = {place[donor]: new[donor] for donor in range(8)}
    moved, doubt = predict(learn(history[order][:, tasks]), observed)
    np.testing.assert_allclose(moved, mean[order], atol=1e-6)
    np.testing.assert_allclose(doubt, error[order], atol=1e-6)


@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-100, 100))
def test_predictions_are_in_the_units_of_what_was_observed(seed, scale, offset):
    rng = np.random.default_rng(seed)
    factors, new = learn(rng.normal(size=(20, 9))), rng.normal(size=5)
    mean, error = predict(factors, dict(enumerate(new)))
    other, doubt = predict(factors, dict(enumerate(new * scale + offset)))
    np.testing.assert_allclose(other, mean * scale + offset, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(doubt, error * scale, rtol=1e-6)


def test_measured_values_win_and_have_no_error():
    history, _ = tasks_of(0)
    mean, error = predict(learn(history), {3: 0.5, 9: 0.25})
    assert (mean[3], mean[9]) == (0.5, 0.25)
    assert (error[3], error[9]) == (0, 0)
    assert (np.delete(error, [3, 9]) > 0).all()


def test_with_nothing_observed_donors_stand_as_on_other_tasks():
    rng = np.random.default_rng(0)
    skill = rng.normal(size=50)
    mean, _ = predict(learn(skill[:, None] + 0.3 * rng.normal(size=(50, 20))), {})
    assert np.corrcoef(mean, skill)[0, 1] > 0.95


def test_a_donor_that_was_never_measured_gets_the_mean_and_the_largest_error():
    history, new = tasks_of(1)
    history[5] = np.nan
    observed = {donor: new[donor] for donor in range(10, 30)}
    mean, error = predict(learn(history), observed)
    assert error.argmax() == 5
    assert abs(mean[5] - new.mean()) < new.std()


def test_the_standard_error_is_about_the_error():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 41)) + rng.normal(size=(300, 41))
    mean, error = predict(learn(values[:, :-1]), dict(enumerate(values[:40, -1])))
    surprise = (values[40:, -1] - mean[40:]) / error[40:]
    assert 0.5 < np.sqrt((surprise**2).mean()) < 1.5


def test_landmarks_are_different_donors_of_different_kinds():
    history, _ = tasks_of(4)
    twins = np.concatenate([history, history])
    found = landmarks(learn(twins), 2)
    assert found[0] % 60 != found[1] % 60
    assert sorted(landmarks(learn(history), 100)) == list(range(60))


@given(st.integers(0, 10_000), st.integers(0, 70))
def test_choosing_keeps_the_budget_and_measures_nobody_twice(seed, budget):
    history, new = tasks_of(seed)
    asked: list[int] = []
    choice = choose(lambda donors: asked.extend(donors) or new[donors], history, budget)
    assert len(asked) == len(set(asked)) == min(budget, 60)
    assert list(choice.measured) == asked
    assert choice.mean[asked].tolist() == new[asked].tolist()


@given(st.integers(0, 10_000))
def test_the_best_of_a_low_rank_task_is_found_at_once(seed):
    history, new = tasks_of(seed, donors=200)
    assert choose(lookup(new), history, 24).best[0] == new.argmax()


def test_new_donors_are_tried():
    history, new = tasks_of(5)
    history[[11, 22]] = np.nan
    new[22] = new.max() + 5 * new.std()
    assert choose(lookup(new), history, 30).best[0] == 22


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_donor_whose_value_is_not_a_number_is_never_chosen(bad):
    history, new = tasks_of(6)
    winner = int(new.argmax())
    new[winner] = bad
    choice = choose(lookup(new), history, 60)
    assert choice.failed == (winner,)
    assert winner not in choice.best
    assert choice.best[0] == np.where(np.isfinite(new), new, -9e9).argmax()
    assert choice.mean[winner] == -np.inf


def test_all_may_fail():
    choice = choose(lambda donors: [np.nan] * len(donors), tasks_of(7)[0], 60)
    assert choice.best == ()
    assert sorted(choice.failed) == list(range(60))


@pytest.mark.parametrize(
    "history",
    [
        np.empty((6, 0)),
        np.full((6, 3), 0.5),
        np.full((6, 3), np.nan),
        np.arange(6.0)[:, None],
        np.column_stack([np.arange(6.0), np.full(6, np.nan), np.full(6, 2.0)]),
    ],
    ids=["no tasks", "all equal", "all unknown", "one task", "columns that say nothing"],
)
@pytest.mark.parametrize("new", [np.arange(6.0), np.full(6, 0.5)], ids=["told apart", "equal"])
def test_choosing_works_with_any_history(history, new):
    choice = choose(lookup(new), history, 5, at_once=2)
    assert len(choice.best) == 5
    assert new[choice.best[0]] >= 4 or (new == 0.5).all()
    assert np.isfinite(choice.mean).all()
    assert np.isfinite(choice.error).all()


@pytest.mark.parametrize(("donors", "best"), [(1, (0,)), (0, ())])
def test_one_donor_or_none(donors, best):
    choice = choose(lookup([0.5]), np.ones((donors, 4)), 10)
    assert choice.best == best
