"""Labels that scratch needs: against plain arithmetic, and what is never extrapolated."""

import math

import numpy as np
import pytest

from mashup.results.labels import FEWER, MORE, Drawn, draw_accuracies, labels_needed, mean_of


def fixed(value):
    return Drawn(value, np.full(100, value))


CURVE = {16: fixed(0.5), 64: fixed(0.7), 256: fixed(0.8)}


@pytest.mark.parametrize(
    ("level", "needed"),
    [
        (0.6, 32.0),  # halfway between 16 and 64 in the logarithm
        (0.7, 64.0),
        (0.75, 128.0),
        (0.8, 256.0),
        (0.5, 16.0),
        (0.81, MORE),
        (0.49, FEWER),
    ],
)
def test_labels_are_interpolated_in_the_logarithm_and_never_extrapolated(level, needed):
    found = labels_needed(CURVE, fixed(level))
    assert (found.value, found.low, found.high) == pytest.approx((needed, needed, needed))


def test_where_scratch_falls_with_more_labels_the_first_crossing_counts():
    curve = {16: fixed(0.5), 64: fixed(0.7), 256: fixed(0.6), 1024: fixed(0.8)}
    assert labels_needed(curve, fixed(0.65)).value == pytest.approx(
        math.exp(math.log(16) + 0.75 * math.log(4))
    )


def test_an_interval_may_end_beyond_what_was_measured():
    level = Drawn(0.75, np.linspace(0.4, 0.9, 100))
    found = labels_needed(CURVE, level)
    assert found.value == pytest.approx(128)
    assert (found.low, found.high) == (FEWER, MORE)


def test_arms_stay_paired_and_seeds_widen():
    draw = np.random.default_rng(3)
    scratch = (draw.random((1, 400)) < 0.6).astype(float)
    better = np.maximum(scratch, draw.random((1, 400)) < 0.1)
    one = draw_accuracies({("scratch", 64): scratch, ("mashup", 64): better})
    gain = one["mashup", 64].draws - one["scratch", 64].draws
    apart = math.hypot(one["mashup", 64].draws.std(), one["scratch", 64].draws.std())
    assert gain.std() < 0.5 * apart
    assert (gain >= 0).all()  # the same rows are drawn for both
    assert one["scratch", 64].value == scratch.mean()
    assert one["scratch", 64].draws.std() == pytest.approx(math.sqrt(0.24 / 400), rel=0.1)
    seeds = np.stack([np.zeros(400), np.ones(400)])
    wide = draw_accuracies({("scratch", 64): scratch, ("mashup", 64): seeds})
    assert wide["mashup", 64].draws.std() == pytest.approx(0.5, rel=0.05)
    assert wide["scratch", 64].draws.std() == pytest.approx(math.sqrt(0.5), rel=0.05)


def test_examples_of_one_prompt_are_drawn_together():
    hits = np.repeat((np.arange(50) % 2).astype(float), 8)[None]
    apart = draw_accuracies({("scratch", 16): hits})["scratch", 16]
    together = draw_accuracies({("scratch", 16): hits}, np.repeat(np.arange(50), 8))["scratch", 16]
    assert together.value == apart.value == 0.5
    assert together.draws.std() == pytest.approx(math.sqrt(8) * apart.draws.std(), rel=0.05)


def test_the_mean_over_tasks_is_of_what_all_have():
    one, other = (
        {("scratch", 16): fixed(0.5), ("mashup", 16): fixed(0.7)},
        {("scratch", 16): fixed(0.7)},
    )
    found = mean_of([one, other])
    assert set(found) == {("scratch", 16)}
    assert found["scratch", 16].value == pytest.approx(0.6)
    assert found["scratch", 16].interval.low == pytest.approx(0.6)
