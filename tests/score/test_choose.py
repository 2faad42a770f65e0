"""Which strategy is picked, and what is said of it."""

import numpy as np
import pytest

from mashup.score.choose import pick

NOTHING = np.empty((0, 0))


def known(candidates, tasks):
    return np.ones((candidates, tasks))


@pytest.mark.parametrize(
    ("candidates", "tasks", "expected"),
    [(0, 0, "exhaustive"), (1, 0, "exhaustive"), (8, 40, "exhaustive"), (64, 0, "racing"),
     (64, 14, "racing"), (64, 15, "ledger"), (1000, 0, "racing"), (1000, 30, "ledger")],
)  # fmt: skip
def test_auto_goes_by_the_size_and_by_what_is_known(candidates, tasks, expected):
    strategy, reason = pick("auto", candidates, 256, 4, known(candidates, tasks))
    assert strategy == expected
    assert f"{candidates} checkpoints" in reason
    assert "\n" not in reason


def test_a_sample_that_is_hardly_more_than_a_rung_is_measured_whole():
    assert pick("auto", 64, 8, 4, NOTHING)[0] == "exhaustive"


def test_what_is_asked_for_is_done():
    assert pick("racing", 2, 256, 4, NOTHING) == ("racing", "as asked")
    assert pick("exhaustive", 2000, 256, 4, NOTHING) == ("exhaustive", "as asked")
    assert pick("ledger", 64, 256, 4, known(64, 15)) == ("ledger", "as asked")


def test_a_ledger_that_knows_too_little_gives_way_to_a_race():
    strategy, reason = pick("ledger", 64, 256, 4, known(64, 3))
    assert strategy == "racing"
    assert reason == "the ledger knows 3 past tasks, it takes 15"
