"""Which strategy is picked, and what is said of it."""

import numpy as np
import pytest

from mashup._score.score import Field, pick

NOTHING = np.empty((0, 0))


def field(checkpoints, groups=None, examples=256):
    return Field(checkpoints, checkpoints if groups is None else groups, examples, 4)


def known(candidates, tasks):
    return np.ones((candidates, tasks))


@pytest.mark.parametrize(
    ("candidates", "tasks", "expected"),
    [(0, 0, "exhaustive"), (1, 0, "exhaustive"), (8, 40, "exhaustive"), (64, 0, "racing"),
     (64, 14, "racing"), (64, 15, "ledger"), (1000, 0, "racing"), (1000, 30, "ledger")],
)  # fmt: skip
def test_auto_goes_by_the_size_and_by_what_is_known(candidates, tasks, expected):
    strategy, reason = pick("auto", field(candidates), known(candidates, tasks))
    assert strategy == expected
    assert f"{candidates} checkpoint" in reason
    assert "\n" not in reason


def test_a_sample_that_is_hardly_more_than_a_rung_is_measured_whole():
    assert pick("auto", field(64, examples=8), NOTHING)[0] == "exhaustive"


def test_what_is_asked_for_is_done():
    assert pick("racing", field(2), NOTHING) == ("racing", "as asked")
    assert pick("exhaustive", field(2000), NOTHING) == ("exhaustive", "as asked")
    assert pick("ledger", field(64), known(64, 15)) == ("ledger", "as asked")


def test_a_ledger_that_knows_too_little_gives_way_to_a_race():
    strategy, reason = pick("ledger", field(64), known(64, 3))
    assert strategy == "racing"
    assert reason == "the ledger knows 3 past tasks, and 15 are needed"


def test_near_identical_checkpoints_make_a_race_cheap():
    assert pick("auto", field(8), NOTHING)[0] == "exhaustive"
    strategy, reason = pick("auto", field(8, groups=2), NOTHING)
    assert strategy == "racing"
    assert reason.startswith("8 checkpoints in 2 groups of near-identical ones: a race saves")
