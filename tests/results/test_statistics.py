"""The paired bootstrap against what is known about it."""

import itertools

import numpy as np
import pytest

from mashup.results import Difference, paired_bootstrap
from mashup.results.significance import mean_difference


def test_no_difference_is_certain():
    values = np.random.default_rng(0).normal(size=(1, 50))
    assert paired_bootstrap(values, values) == Difference(0.0, 0.0, 0.0)


def test_seeds_that_cancel_exactly_are_no_difference():
    def hits(count):
        return [1.0] * count + [0.0] * (200 - count)

    for gains in itertools.product(range(-6, 7), repeat=3):
        if sum(gains) == 0:
            arm = [hits(100 + gain) for gain in gains]
            assert paired_bootstrap(arm, [hits(100)] * 3, resamples=1).value == 0.0


def test_the_interval_is_the_normal_one_for_many_examples():
    draw = np.random.default_rng(1)
    scratch = draw.normal(size=(1, 400))
    arm = scratch + draw.normal(0.1, 1.0, size=(1, 400))
    found = paired_bootstrap(arm, scratch)
    d = (arm - scratch)[0]
    half = 1.96 * d.std(ddof=1) / 20
    assert found.value == pytest.approx(d.mean())
    assert found.low == pytest.approx(d.mean() - half, abs=0.02)
    assert found.high == pytest.approx(d.mean() + half, abs=0.02)


def test_pairing_removes_what_examples_have_in_common():
    hard = np.random.default_rng(2).normal(scale=10, size=(1, 200))
    found = paired_bootstrap(hard - 0.5, hard)
    assert (found.low, found.high) == (pytest.approx(-0.5), pytest.approx(-0.5))


def test_intervals_cover_the_truth_as_often_as_they_say():
    draw, covered = np.random.default_rng(3), 0
    for trial in range(200):
        arm = draw.normal(0.3, 1, size=(1, 60))
        found = paired_bootstrap(arm, np.zeros((1, 60)), resamples=500, seed=trial)
        covered += found.low <= 0.3 <= found.high
    assert 0.90 <= covered / 200 <= 0.99


def test_seeds_that_disagree_widen_the_interval():
    examples = np.random.default_rng(4).normal(0, 0.1, 100)
    agree = paired_bootstrap([examples, examples], np.zeros((2, 100)))
    differ = paired_bootstrap([examples + 1, examples - 1], np.zeros((2, 100)))
    assert differ.high - differ.low > 5 * (agree.high - agree.low)


def test_the_standard_error_of_seeds_is_in_the_interval():
    seeds = np.array([-1.0, 0.0, 1.0])[:, None] * np.ones((3, 50))
    found = paired_bootstrap(seeds, np.zeros((3, 50)))
    half = 1.96 / np.sqrt(3)
    assert (found.low, found.high) == (pytest.approx(-half, 1e-3), pytest.approx(half, 1e-3))


def test_means_over_tasks_of_two_seeds_cover_the_truth_as_often_as_they_say():
    draw, covered = np.random.default_rng(5), 0
    for _ in range(100):
        tasks = []
        for task in range(8):
            arm = draw.normal(0.3, 1, size=(2, 1)) * np.ones((2, 20))
            tasks.append(paired_bootstrap(arm, np.zeros((2, 20)), resamples=300, seed=task))
        found = mean_difference(tasks)
        covered += found.low <= 0.3 <= found.high
    assert 0.88 <= covered / 100 <= 0.99


def test_weights_divide_by_tokens():
    found = paired_bootstrap([[2.0, 4.0]], [[0.0, 0.0]], [1, 2])
    assert found.value == pytest.approx(2.0)
    assert (found.low, found.high) == (pytest.approx(2.0), pytest.approx(2.0))


@pytest.mark.parametrize(
    ("low", "high", "higher", "word"),
    [
        (0.1, 0.3, True, "better"),
        (0.1, 0.3, False, "worse"),
        (-0.3, -0.1, False, "better"),
        (-0.1, 0.3, True, "within noise"),
        (0.0, 0.3, True, "within noise"),
    ],
)
def test_verdicts(low, high, higher, word):
    assert Difference((low + high) / 2, low, high).verdict(higher) == word
