"""The ledger strategy on known losses, and on a real tiny model through the front door."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mashup._score.recall import choose, landmarks, learn, looks, predict, recall, tasks_known
from mashup.progress import SILENT
from races import KnownLosses


def related_tasks(donors, tasks, seed=0):
    """Losses of donors on tasks that three traits of a donor decide."""
    generator = np.random.default_rng(seed)
    traits, needs = generator.normal(size=(donors, 3)), generator.normal(size=(3, tasks + 1))
    return 2 + 0.3 * traits @ needs + 0.02 * generator.normal(size=(donors, tasks + 1))


def recalled(history, new, examples=256, **options):
    generator = np.random.default_rng(1)
    hard = generator.exponential(size=examples)
    field = KnownLosses(new[:, None] + hard + 0.1 * generator.normal(size=(len(new), examples)))
    options = {"criterion": "loss", "progress": SILENT, "finalists": 4} | options
    outcome = recall(field, field.candidates, {}, history, **options)
    return field, outcome


def test_the_best_of_hundreds_is_found_from_what_past_tasks_tell():
    losses = related_tasks(400, 30)
    field, outcome = recalled(losses[:, :-1], losses[:, -1])
    best = min(outcome.scores, key=lambda score: (-score.examples, score.loss))
    assert int(best.digest[1:]) in np.argsort(losses[:, -1])[:2]
    assert best.examples == 256
    assert field.spent < 0.03 * 400 * 256


def test_what_was_not_looked_at_has_an_expected_loss():
    losses = related_tasks(100, 30)
    _, outcome = recalled(losses[:, :-1], losses[:, -1])
    assert len(outcome.scores) == looks(100)
    assert len(outcome.scores) + len(outcome.expected) == 100
    places = [int(checkpoint.name[1:]) for checkpoint in outcome.expected]
    expected = np.array(list(outcome.expected.values()))
    ranks = [np.argsort(np.argsort(values)) for values in (expected, losses[places, -1])]
    assert np.corrcoef(*ranks)[0, 1] > 0.9


def test_a_checkpoint_that_no_task_knows_does_not_disturb():
    losses = related_tasks(60, 30)
    history = losses[:, :-1].copy()
    history[7] = np.nan
    _, outcome = recalled(history, losses[:, -1])
    assert all(np.isfinite(value) for value in outcome.expected.values())


@pytest.mark.parametrize("donors", [1, 2, 5])
def test_few_checkpoints_are_all_measured(donors):
    losses = related_tasks(donors, 30)
    _, outcome = recalled(losses[:, :-1], losses[:, -1])
    assert [score.examples for score in outcome.scores].count(256) == min(4, donors)
    assert outcome.expected == {}


def test_a_sample_of_eight_is_enough_to_go_on():
    losses = related_tasks(60, 30)
    _, outcome = recalled(losses[:, :-1], losses[:, -1], examples=8)
    assert {score.examples for score in outcome.scores} == {8}


def test_accuracy_can_decide():
    accuracies = np.clip(related_tasks(100, 30) / 4, 0, 1)
    field = KnownLosses(
        np.where(np.random.default_rng(0).random((100, 256)) < accuracies[:, -1:], 0.5, 2.0)
    )
    outcome = recall(
        field, field.candidates, {}, accuracies[:, :-1], "accuracy", SILENT, finalists=4
    )
    best = max(outcome.scores, key=lambda score: (score.examples, score.accuracy))
    assert accuracies[int(best.digest[1:]), -1] >= np.sort(accuracies[:, -1])[-10]
    assert all(-1.5 < value < 0.5 for value in outcome.expected.values())


def test_looks_grow_slower_than_the_library():
    assert [looks(n) for n in (0, 3, 16, 64, 1000, 10_000)] == [0, 3, 16, 16, 63, 200]


def test_only_tasks_that_know_half_of_the_checkpoints_count():
    history = np.full((4, 3), np.nan)
    history[:2, 0] = history[0, 1] = history[:, 2] = 1.0
    assert tasks_known(history) == 2
    assert tasks_known(np.empty((4, 0))) == 0
    assert tasks_known(np.empty((0, 3))) == 0


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
