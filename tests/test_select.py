"""Choosing, and choosing nothing."""

import numpy as np
import pytest

from mashup.score import Evaluation, Score, Scores
from mashup.select import NOTHING_HELPS, select


def scored(losses, digest=""):
    losses = np.array(losses, float)
    return Score(None, Evaluation(losses, np.ones(len(losses), int), losses < 1), digest)


def scores(*rows, base=(2.0, 2.1, 1.9, 2.0)):
    ranking = sorted((scored(row, str(n)) for n, row in enumerate(rows)), key=lambda s: s.loss)
    return Scores(scored(base), tuple(ranking), "loss", "base", "b", "d", "s")


def test_the_best_k_that_beat_the_base_for_sure():
    good, better, best = [1.5, 1.6, 1.4, 1.5], [1.0, 1.1, 0.9, 1.0], [0.5, 0.6, 0.4, 0.5]
    assert [s.digest for s in select(scores(good, better, best)).chosen] == ["2", "1"]
    assert [s.digest for s in select(scores(good, better, best), k=1).chosen] == ["2"]
    assert len(select(scores(good, better, best), k=9).chosen) == 3


def test_a_gain_within_two_standard_errors_is_no_gain():
    lucky = [0.1, 2.4, 2.0, 2.6]
    selection = select(scores(lucky))
    assert selection.is_empty
    assert selection.sentence == NOTHING_HELPS == "no checkpoint helps; start from the base"


def test_worse_than_the_base_is_never_chosen():
    assert select(scores([3.0, 3.1, 2.9, 3.0])).is_empty


def test_exactly_the_base_is_not_chosen():
    assert select(scores([2.0, 2.1, 1.9, 2.0])).is_empty


def test_k_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        select(scores([1.0, 1.0, 1.0, 1.0]), k=0)


def test_two_copies_of_one_adapter_are_one_parent():
    one = scored([0.5, 0.6, 0.4, 0.5], "same")
    other = scored([1.0, 1.1, 0.9, 1.0], "other")
    base = scored([2.0, 2.1, 1.9, 2.0])
    both = Scores(base, (one, one, other), "loss", "base", "b", "d", "s")
    assert [s.digest for s in select(both).chosen] == ["same", "other"]
