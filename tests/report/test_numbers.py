"""Digits, signs and shares."""

from __future__ import annotations

import math

import pytest

from mashup._report import numbers
from mashup._report.study import Reach


def test_the_last_bit_does_not_show():
    """A mean of the same runs in another order read 82.7 % in one table and 82.8 % in the next."""
    share = 0.8275
    for near in (math.nextafter(share, 0), share, math.nextafter(share, 1)):
        assert numbers.percent(near) == "82.8 %"
        assert numbers.points(near) == "+82.8"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.84, "0.8"), (9.94, "9.9"), (9.96, "10"), (60.4, "60"), (1234.0, "1,234")],
)
def test_seconds(value, text):
    assert numbers.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.048, "+4.8"), (-0.048, "−4.8"), (0.0001, "0.0"), (-0.0001, "0.0")]
)
def test_points_have_a_sign_unless_zero(value, text):
    assert numbers.points(value) == text


@pytest.mark.parametrize(
    ("mine", "scratch", "text"),
    [
        (12, 24, "50 % fewer"),
        (95, 60, "58 % more"),
        (24, 24, "the same"),
        (0, 0, "the same"),
        (3, 0, "–"),
    ],
)
def test_against(mine, scratch, text):
    assert numbers.against(mine, scratch) == text


def test_never_and_not_measured():
    never = Reach(2, 3, None, None, 24, 60)
    assert numbers.reached(never, "steps") == "never"
    assert numbers.saving(never, "steps") == "in 2 of 3 seeds"
    assert numbers.reached(None, "steps") == "–"
    assert numbers.reached(Reach(0, 3, 12 + 1 / 3, 31, 24, 60), "steps") == "12.3 / 24"


def test_listed():
    assert numbers.listed([]) == ""
    assert numbers.listed(["a"]) == "a"
    assert numbers.listed(["a", "b", "c"]) == "a, b and c"


@pytest.mark.parametrize(("value", "shown"), [(0.2, 1), (7.2, 8), (123.4, 130), (98765, 99000)])
def test_estimates_have_two_digits(value, shown):
    assert numbers.rounded(value) == shown
