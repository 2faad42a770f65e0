"""Choosing, and choosing nothing."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mashup._score.result import Score
from mashup._score.scores import Scores
from mashup._select import NOTHING_HELPS, select
from mashup.evaluate.evaluate import Evaluation
from mashup.similarity.clusters import SAME, groups


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


@dataclass(frozen=True)
class Named:
    """As much of a checkpoint as a sentence needs."""

    name: str


def library(losses, directions):
    """Scores of checkpoints that beat a base of loss 2, and the cosines of their deltas."""
    rows = [
        Score(Named(name), scored([loss] * 4).evaluation, name) for name, loss in losses.items()
    ]
    ranking = tuple(sorted(rows, key=lambda score: (score.loss, score.digest)))

    sketches = {name: np.array(directions[name], np.float32) for name in losses}
    base = scored([2.0] * 4)
    return Scores(base, ranking, "loss", "base", "b", "d", "s", sketches=sketches)


RUN = {"end": [1, 0, 0], "step 9": [1, 0.1, 0], "near": [1, 1, 0], "far": [0, 0, 1]}
LOSSES = {"end": 1.0, "step 9": 1.1, "near": 1.3, "far": 1.6}


def names(selection):
    return [score.name for score in selection.chosen]


def test_of_one_run_only_the_best_is_chosen():
    found = library(LOSSES, RUN)
    assert names(select(replace(found, sketches={}))) == ["end", "step 9"]
    selection = select(found)
    assert names(selection) == ["end", "near"]
    (passed,) = selection.passed
    assert (passed.score.name, passed.like.name, passed.is_same) == ("step 9", "end", True)
    assert passed.cosine == pytest.approx(1 / np.sqrt(1.01))
    assert selection.sentence.endswith(
        " against the base; passed over: step 9 (nearly the same as end, cosine 1.00)"
    )


def test_diversity_gives_up_fit_for_difference():
    found = library(LOSSES, RUN)
    # "near" lacks 0.3 of the gain at a cosine of 0.71, "far" 0.6 at a cosine of 0
    assert names(select(found, diversity=0.4)) == ["end", "near"]
    selection = select(found, diversity=0.45)
    assert names(selection) == ["end", "far"]
    assert [(p.score.name, p.is_same) for p in selection.passed] == [
        ("step 9", True),
        ("near", False),
    ]
    assert "near (like end, cosine 0.71)" in selection.sentence


def test_who_would_not_have_been_chosen_anyway_is_not_told():
    found = library({"end": 1.0, "far": 1.1, "step 9": 1.2}, RUN)
    selection = select(found)
    assert names(selection) == ["end", "far"]
    assert selection.passed == ()
    assert selection.sentence.endswith("against the base")


def test_a_long_run_is_told_in_short():
    steps = {f"step {n}": 1 + n / 100 for n in range(6)}
    directions = {step: [1, 0] for step in steps} | {"far": [0, 1]}
    found = library(steps | {"far": 1.5}, directions)
    selection = select(found)
    assert len(selection.passed) == 5
    assert selection.sentence.count("nearly the same as step 0") == 3
    assert selection.sentence.endswith(" and 2 more")


def test_only_those_that_beat_the_base_are_candidates():
    found = library({"end": 1.0, "far": 2.5, "near": 2.0}, RUN)
    assert names(select(found, k=3, diversity=9.0)) == ["end"]
    none = library({"end": 2.0}, RUN)
    assert select(none, diversity=1.0).is_empty


@pytest.mark.parametrize("diversity", [-0.1, float("nan"), float("inf")])
def test_diversity_must_be_a_price(diversity):
    with pytest.raises(ValueError, match="0 or more"):
        select(library(LOSSES, RUN), diversity=diversity)


def test_diversity_of_nothing_is_nothing():
    assert select(scores(), diversity=0.2).is_empty
    assert select(scores([2.5, 2.6, 2.4, 2.5]), diversity=0.2).is_empty


def test_diversity_needs_sketches():
    with pytest.raises(ValueError, match="needs sketches"):
        select(replace(library(LOSSES, RUN), sketches={}), diversity=0.5)


@given(st.integers(0, 999), st.integers(1, 10), st.integers(1, 4), st.floats(0, 2))
def test_the_chosen_are_leaders_of_groups_in_the_order_of_the_ranking(seed, count, k, diversity):
    generator = np.random.default_rng(seed)
    directions = {str(n): generator.standard_normal(2) for n in range(count)}
    losses = dict(zip(directions, generator.uniform(1, 1.9, count), strict=True))
    found = library(losses, directions)
    ranked = [score.digest for score in found.ranking]
    led = np.unique(groups(np.array([directions[d] for d in ranked], np.float32), SAME))
    leading = [ranked[index] for index in led]
    assert names(select(found, k=k)) == leading[:k]
    chosen = names(select(found, k=k, diversity=diversity))
    assert chosen[0] == leading[0]
    assert set(chosen) <= set(leading)
    assert len(chosen) == min(k, len(leading))
