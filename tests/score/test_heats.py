"""Near-identical checkpoints race as one, and then among themselves."""

from dataclasses import replace

import numpy as np

from mashup._score.heats import MEMBERS, group_of, heats
from mashup.progress import SILENT
from races import KnownLosses


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


def raced(field, candidates, **options):
    group = group_of(candidates)
    return heats(field, candidates, group, "loss", SILENT, finalists=4, **options)


def ranking(outcome):
    return sorted(outcome.scores, key=lambda score: (-score.examples, score.loss))


def test_the_best_member_of_the_best_group_wins_though_another_one_ran_for_it():
    field, candidates = library(groups=32, members=8)
    outcome = raced(field, candidates)
    assert ranking(outcome)[0].digest == "c007"
    assert ranking(outcome)[0].examples == 256


def test_a_first_that_loses_to_another_of_its_group_keeps_what_it_was_measured_on():
    field, candidates = library(groups=32, members=8)
    outcome = raced(field, candidates)
    reached = {score.digest: score.examples for score in outcome.scores}
    assert (reached["c000"] < 256, reached["c007"]) == (True, 256)
    assert field.spent == sum(reached.values())


def test_groups_and_not_checkpoints_are_paid_for():
    field, candidates = library(groups=32, members=8)
    raced(field, candidates)
    more, many = library(groups=32, members=64)
    raced(more, many)
    assert more.spent < 1.5 * field.spent
    assert more.spent < 0.02 * 32 * 64 * 256


def test_of_a_large_group_some_members_race_and_the_others_are_expected_to_be_like_it():
    field, candidates = library(groups=3, members=100)
    outcome = raced(field, candidates)
    assert len(outcome.scores) == 3 * (1 + MEMBERS)
    assert len(outcome.scores) + len(outcome.expected) == 300
    first = next(score for score in outcome.scores if score.digest == "c000")
    assert outcome.expected[candidates[5].checkpoint] == first.loss


def test_the_finalists_are_of_different_groups():
    field, candidates = library(groups=8, members=8)
    group = group_of(candidates)
    final = [score.digest for score in raced(field, candidates).scores if score.examples == 256]
    last = {group[digest] for digest in final}
    assert len(last) >= 4


def test_checkpoints_that_are_all_apart_race_once():
    field, candidates = library(groups=40, members=1)
    outcome = raced(field, candidates)
    assert len(outcome.scores) == 40
    assert outcome.expected == {}


def test_nobody_races_in_an_empty_library():
    field, _ = library(groups=2, members=1)
    assert group_of([]) == {}
    assert raced(field, []).scores == ()
