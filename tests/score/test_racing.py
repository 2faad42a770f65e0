"""Near-identical checkpoints race as one, and then among themselves."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import Noted, prompt_rows, write_jsonl
from lora import save_lora
from mashup import load_task, score
from mashup._score.racing import MEMBERS, group_of, heats, planned, racing, room, rungs, stay
from mashup.progress import SILENT
from races import KnownLosses, candidate, scored


def losses(count, examples=256, spread=1.0, seed=0):
    """The n-th checkpoint is worse than the one before; examples are hard for all alike."""
    generator = np.random.default_rng(seed)
    hard = generator.exponential(size=examples)
    noise = 0.1 * generator.normal(size=(count, examples))
    return hard + spread * np.arange(count)[:, None] / count + noise


def raced(known, **options):
    outcome = racing(known, known.candidates, "loss", SILENT, **options)
    return sorted(outcome.scores, key=lambda score: (-score.examples, score.loss))


def test_rungs_grow_to_the_whole_sample():
    assert rungs(256) == [8, 32, 128, 256]
    assert rungs(512) == [8, 32, 128, 512]
    assert rungs(8) == [8]
    assert rungs(3) == [3]


def test_the_best_of_many_wins_for_a_fraction_of_the_forwards():
    field = KnownLosses(losses(64))
    ranking = raced(field)
    assert [score.digest for score in ranking[:2]] == ["c000", "c001"]
    assert ranking[0].examples == 256
    assert len(ranking) == 64
    assert field.spent == sum(score.examples for score in ranking)
    assert field.spent <= planned(64, rungs(256)) == 64 * 8 + 16 * 24 + 4 * 96 + 4 * 128


def test_the_bar_of_a_race_is_full_where_nobody_is_eliminated(tiny_base, tmp_path):
    for seed in range(8):
        save_lora(tiny_base, tmp_path / f"lib/run{seed}", seed=seed, size=1e-3)
    task = load_task(write_jsonl(tmp_path / "new.jsonl", prompt_rows(60)))
    noted = Noted()
    settings = {"samples": 40, "strategy": "racing", "criterion": "loss", "finalists": 8}
    score(tmp_path / "lib", tiny_base, task, progress=noted, **settings)
    assert noted.bars["racing"][1] > 0
    assert all(done == total for done, total in noted.bars.values()), noted.bars


def test_what_is_clearly_worse_goes_even_where_there_is_room():
    field = KnownLosses(losses(64, spread=30.0))
    raced(field)
    assert field.spent < planned(64, rungs(256))


def test_no_more_checkpoints_than_finalists_are_all_measured_in_full():
    ranking = raced(KnownLosses(losses(4)))
    assert [score.examples for score in ranking] == [256] * 4
    assert raced(KnownLosses(losses(1)))[0].examples == 256
    assert racing(KnownLosses(losses(2)), [], "loss", SILENT).scores == ()


def test_a_small_sample_is_one_rung():
    assert {score.examples for score in raced(KnownLosses(losses(20, examples=8)))} == {8}


def test_of_a_group_only_the_best_goes_on():
    groups = {f"c{n:03}": 0 for n in range(8)}
    ranking = raced(KnownLosses(losses(16)), groups=groups)
    final = [score.digest for score in ranking if score.examples == 256]
    assert final[0] == "c000"
    assert len([digest for digest in final if digest in groups]) == 1


def test_identical_checkpoints_race_as_one():
    copies = [candidate(f"copy{n}", "c000") for n in range(5)]
    field = KnownLosses(losses(2))
    outcome = racing(field, [*copies, *field.candidates[1:]], "loss", SILENT)
    assert sorted(score.examples for score in outcome.scores) == [8, 8, 8, 8, 256, 256]


def test_checkpoints_that_are_all_equal_are_not_all_thrown_out():
    ranking = raced(KnownLosses(np.ones((64, 256))))
    assert sum(score.examples == 256 for score in ranking) == 4


def test_a_quarter_of_those_that_are_raced_for_goes_on():
    ranking = raced(KnownLosses(np.ones((16, 256))), field=48)
    assert sum(score.examples >= 32 for score in ranking) == 12
    assert sum(score.examples >= 128 for score in ranking) == 4


def test_the_last_rungs_can_be_left_to_another_race():
    assert max(score.examples for score in raced(KnownLosses(losses(8)), until=128)) == 128
    small = raced(KnownLosses(losses(8, examples=8)), until=4)
    assert {score.examples for score in small} == {8}


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=40),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
def test_the_best_stays_few_do_and_order_does_not_matter(means, finalists, random):
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(len(means), 8))
    field = [
        scored(candidate(f"c{n:03}"), mean + row)
        for n, (mean, row) in enumerate(zip(means, noise, strict=True))
    ]
    seats = room(len(field), finalists)
    staying = [score.digest for score in stay(field, "loss", finalists, {}, seats)]
    best = min(field, key=lambda score: score.order("loss"))
    assert best.digest in staying
    assert min(finalists, len(field)) <= len(staying) <= max(finalists, -(-len(field) // 4))
    random.shuffle(field)
    assert sorted(s.digest for s in stay(field, "loss", finalists, {}, seats)) == sorted(staying)


def test_accuracy_can_decide():
    rows = np.full((20, 64), 2.0)
    rows[7, ::2] = 0.5  # right on half of the examples
    outcome = racing(KnownLosses(rows), KnownLosses(rows).candidates, "accuracy", SILENT)
    best = min(outcome.scores, key=lambda score: (-score.examples, score.order("accuracy")))
    assert best.digest == "c007"
    assert best.accuracy == pytest.approx(0.5)


def library(groups, members, examples=256):
    """Losses and candidates: groups apart by their direction, and members nearly the same."""
    generator = np.random.default_rng(0)
    hard = generator.exponential(size=examples)
    level = np.repeat(np.arange(groups) / groups, members) + np.tile(
        0.01 * np.arange(members)[::-1], groups
    )
    count = groups * members
    field = KnownLosses(level[:, None] + hard + 0.02 * generator.normal(size=(count, examples)))
    directions = np.repeat(np.eye(groups, 1024), members, axis=0)
    sketches = (directions + 0.001 * generator.normal(size=(count, 1024))).astype(np.float32)
    pairs = zip(field.candidates, sketches, strict=True)
    return field, [replace(one, sketch=sketch) for one, sketch in pairs]


def heated(field, candidates, **options):
    group = group_of(candidates)
    return heats(field, candidates, group, "loss", SILENT, finalists=4, **options)


def ranking(outcome):
    return sorted(outcome.scores, key=lambda score: (-score.examples, score.loss))


def test_the_best_member_of_the_best_group_wins_though_another_one_ran_for_it():
    field, candidates = library(groups=32, members=8)
    outcome = heated(field, candidates)
    assert ranking(outcome)[0].digest == "c007"
    assert ranking(outcome)[0].examples == 256


def test_a_first_that_loses_to_another_of_its_group_keeps_what_it_was_measured_on():
    field, candidates = library(groups=32, members=8)
    outcome = heated(field, candidates)
    reached = {score.digest: score.examples for score in outcome.scores}
    assert (reached["c000"] < 256, reached["c007"]) == (True, 256)
    assert field.spent == sum(reached.values())


def test_groups_and_not_checkpoints_are_paid_for():
    field, candidates = library(groups=32, members=8)
    heated(field, candidates)
    more, many = library(groups=32, members=64)
    heated(more, many)
    assert more.spent < 1.5 * field.spent
    assert more.spent < 0.02 * 32 * 64 * 256


def test_of_a_large_group_some_members_race_and_the_others_are_expected_to_be_like_it():
    field, candidates = library(groups=3, members=100)
    outcome = heated(field, candidates)
    assert len(outcome.scores) == 3 * (1 + MEMBERS)
    assert len(outcome.scores) + len(outcome.expected) == 300
    first = next(score for score in outcome.scores if score.digest == "c000")
    assert outcome.expected[candidates[5].checkpoint] == first.loss


def test_the_finalists_are_of_different_groups():
    field, candidates = library(groups=8, members=8)
    group = group_of(candidates)
    final = [score.digest for score in heated(field, candidates).scores if score.examples == 256]
    last = {group[digest] for digest in final}
    assert len(last) >= 4


def test_checkpoints_that_are_all_apart_race_once():
    field, candidates = library(groups=40, members=1)
    outcome = heated(field, candidates)
    assert len(outcome.scores) == 40
    assert outcome.expected == {}


def test_nobody_races_in_an_empty_library():
    field, _ = library(groups=2, members=1)
    assert group_of([]) == {}
    assert heated(field, []).scores == ()
