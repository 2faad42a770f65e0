"""The ledger strategy on known losses, and on a real tiny model through the front door."""

import numpy as np
import pytest

from mashup._score.ledger.recall import looks, recall, tasks_known
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
