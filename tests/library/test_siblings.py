from pathlib import Path

import pytest

from mashup.checkpoint import Checkpoint
from mashup.errors import Problem
from mashup.library.scan import keep_one_per_run

BROKEN = Problem("truncated safetensors", "somewhere")


def step(n, *, best=None, run="run", **fields):
    return Checkpoint(Path(run, f"checkpoint-{n}"), "lora", best_step=best, **fields)


def kept(*checkpoints):
    return [checkpoint.name for checkpoint in keep_one_per_run(checkpoints)[0]]


def test_the_last_step_is_kept_by_number_not_by_name():
    assert kept(step(9), step(100), step(20)) == ["run/checkpoint-100"]


def test_the_best_step_is_kept_when_the_trainer_noted_one():
    assert kept(step(10), step(20), step(30, best=20)) == ["run/checkpoint-20"]


def test_the_latest_note_of_a_best_step_counts():
    assert kept(step(10, best=10), step(20, best=20), step(30, best=20)) == ["run/checkpoint-20"]


def test_a_best_step_that_was_deleted_leaves_the_last():
    assert kept(step(20, best=10), step(30, best=10)) == ["run/checkpoint-30"]


def test_the_final_result_of_a_run_comes_after_all_its_steps():
    final = Checkpoint(Path("run"), "lora")
    assert kept(final, step(10), step(20)) == ["run"]


def test_runs_and_kinds_are_apart():
    full = Checkpoint(Path("run", "checkpoint-30"), "full")
    assert kept(step(10), step(20), full, step(5, run="other")) == [
        "other/checkpoint-5",
        "run/checkpoint-20",
        "run/checkpoint-30",
    ]


@pytest.mark.parametrize("best", [None, 30])
def test_a_broken_sibling_is_seen_and_a_usable_one_is_kept_beside_it(best):
    siblings = (step(10), step(20), step(30, best=best, problem=BROKEN))
    assert kept(*siblings) == ["run/checkpoint-20", "run/checkpoint-30"]


def test_every_checkpoint_is_in_one_of_the_two_groups():
    all_of_them = {step(10), step(20, problem=BROKEN), step(30), step(1, run="other")}
    shown, hidden = keep_one_per_run(all_of_them)
    assert len(shown) + len(hidden) == 4
    assert {*shown, *hidden} == all_of_them
    assert hidden == (step(10),)
