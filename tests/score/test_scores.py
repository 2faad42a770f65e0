"""The paired standard error."""

import numpy as np
import pytest

from mashup._score.scores import Score
from mashup.evaluate.evaluate import Evaluation
from mashup.results.statistics import paired_error


def evaluation(losses, tokens=None, correct=None):
    losses = np.array(losses, float)
    tokens = np.ones(len(losses), int) if tokens is None else np.array(tokens)
    correct = np.zeros(len(losses), bool) if correct is None else np.array(correct)
    return Evaluation(losses, tokens, correct)


def test_with_one_token_each_it_is_the_usual_paired_error():
    mine, base = [1.0, 2.0, 4.0, 0.5], [2.0, 2.5, 3.0, 2.0]
    difference, error = Score(None, evaluation(mine)).against(Score(None, evaluation(base)))
    d = np.array(mine) - np.array(base)
    assert difference == pytest.approx(d.mean())
    assert error == pytest.approx(d.std(ddof=1) / 2)


def test_a_constant_gain_a_token_is_certain():
    tokens = np.array([1, 2, 3, 9])
    difference, error = paired_error(-0.25 * tokens, tokens.astype(float))
    assert difference == pytest.approx(-0.25)
    assert error == pytest.approx(0.0, abs=1e-12)


def test_the_error_of_the_ratio_matches_a_simulation():
    random = np.random.default_rng(0)
    draws = []
    for _ in range(2000):
        weights = random.integers(1, 6, 80).astype(float)
        draws.append(paired_error(0.1 * weights + random.normal(size=80), weights))
    values, errors = np.array(draws).T
    assert errors.mean() == pytest.approx(values.std(), rel=0.05)


def test_accuracy_counts_examples_and_lower_stays_better():
    better = Score(None, evaluation([1] * 4, correct=[1, 1, 1, 0]))
    base = Score(None, evaluation([1] * 4, correct=[1, 0, 0, 0]))
    difference, _ = better.against(base, "accuracy")
    assert difference == pytest.approx(-0.5)
    assert better.value("accuracy") < base.value("accuracy")


def test_a_single_example_says_nothing():
    assert paired_error(np.array([-1.0]), np.ones(1))[1] == float("inf")
