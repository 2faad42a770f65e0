"""Which checkpoints an arm starts from."""

from dataclasses import replace

import numpy as np

from armresults import PLANS, make_result
from mashup._compare.arms import make_arms, random_draw, random_two
from mashup._compare.bench import _joined
from mashup._compare.results import make_records
from mashup._score.result import Score
from mashup._score.scores import Scores
from mashup._select import Selection
from mashup.evaluate.evaluate import Evaluation
from mashup.settings import ARMS
from races import candidate, scored


def ranking(count):
    one = Evaluation(np.ones(4), np.ones(4, int), np.ones(4, bool))
    return tuple(Score(None, one, f"digest{n}") for n in range(count))


def selection(count, chosen):
    scores = ranking(count)
    base = Score(None, scores[0].evaluation)
    return Selection(scores[:chosen], Scores(base, scores, "loss", "base", "b", "d", "s"))


def test_all_arms_in_order():
    arms = {arm.name: arm for arm in make_arms(ARMS, selection(5, 2), seed=1)}
    assert tuple(arms) == ARMS
    assert arms["scratch"].parents == ()
    assert [p.digest for p in arms["mashup"].parents] == ["digest0", "digest1"]
    assert [p.digest for p in arms["best-single"].parents] == ["digest0"]
    assert len(arms["random-two"].parents) == 2
    assert arms["merged-untrained"].parents == arms["mashup"].parents
    assert not arms["merged-untrained"].trained


def test_only_the_arms_that_used_the_ranking_pay_for_it():
    arms = {arm.name: arm.pays_for_scoring for arm in make_arms(ARMS, selection(5, 2), seed=1)}
    assert arms == {
        "scratch": False,
        "mashup": True,
        "best-single": True,
        "random-two": False,
        "merged-untrained": True,
    }


def test_scratch_is_always_there_and_abstaining_is_scratch():
    arms = make_arms(("mashup",), selection(3, 0), seed=1)
    assert [arm.name for arm in arms] == ["scratch", "mashup"]
    assert arms[1].parents == ()
    assert "same as scratch" in arms[1].note


def test_targets_that_share_their_donors_do_not_share_their_draws():
    donors = ranking(8)
    left_out = [tuple(d for d in donors if d is not target) for target in donors]
    drawn = [
        random_draw(rest, 2, 1, target.digest)
        for target, rest in zip(donors, left_out, strict=True)
    ]
    assert len({frozenset(s.digest for s in pair) for pair in drawn}) >= 6
    assert len({s.digest for pair in drawn for s in pair}) >= 6
    assert random_draw(donors, 2, 1, "sst2") == random_draw(donors[::-1], 2, 1, "sst2")
    assert random_draw(donors, 2, 1, "sst2") != random_draw(donors, 2, 2, "sst2")


def test_another_processor_draws_the_same_donors_though_their_bytes_differ():
    losses, names = np.ones(4), [f"task{n}" for n in range(8)]
    here = [scored(candidate(name, f"digest{n}"), losses) for n, name in enumerate(names)]
    there = [scored(candidate(name, f"other{7 - n}"), losses) for n, name in enumerate(names)]
    for draw in range(10):
        pairs = [[one.name for one in random_two(some, draw)] for some in (here, there)]
        assert pairs[0] == pairs[1]
        drawn = [[one.name for one in random_draw(some, 2, draw, "sst2")] for some in (here, there)]
        assert drawn[0] == drawn[1]


def test_random_parents_depend_on_the_seed_and_not_on_the_ranking():
    scores = ranking(9)
    drawn = {tuple(s.digest for s in random_two(scores, seed)) for seed in range(40)}
    assert len(drawn) > 10
    assert random_two(scores, 3) == random_two(scores[::-1], 3)
    assert len(random_two(scores[:1], 3)) == 1


def test_names_of_many_long_donors_fit_a_file_name():
    assert _joined(["a/b", "c"]) == "a-b+c"
    long = _joined(["漢字" * 30] * 6)
    assert 90 < len(long.encode()) <= 100


def test_an_arm_is_judged_by_the_point_that_is_kept_and_pays_for_all_steps(tmp_path):
    result = make_result(tmp_path, "mashup", PLANS["mashup"], 42, 1.0)
    best = result.run.curve[4]
    run = replace(result.run, record=result.run.record | {"best_step": best.step})
    records = make_records("e", "t", [replace(result, run=run)])
    found = {one.metric: one for one in records}
    assert (found["dev_loss"].step, found["dev_loss"].value) == (best.step, best.dev_loss)
    assert found["train_seconds"].value == result.run.last.seconds > best.seconds
    assert found["total_seconds"].value == result.run.last.seconds + result.before
