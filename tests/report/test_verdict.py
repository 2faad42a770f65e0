"""The sentence that comes first: better, worse, noise, never, nothing to start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mashup._report.material import read_material
from mashup._report.summarise import summarise
from mashup._report.summary import Summary
from mashup._report.tables import arms_table
from mashup._report.verdict import make_verdict
from mashup.results.statistics import Difference


def summary_of(folder: Path) -> Summary:
    return summarise(read_material(folder))


def with_plan(plans, name, **changes):
    return replace(plans[name], **changes)


def test_better_says_accuracy_interval_steps_and_seconds_with_overhead(make_folder):
    verdict = make_verdict(summary_of(make_folder()))
    assert verdict.tone == "better"
    assert verdict.sentence.startswith(
        "mashup is better than scratch on tickets: test accuracy 74.0 % vs 66.0 %, +8.0 points "
        "[95 % interval +3.0, +14.0]; it reached scratch's final dev loss after "
    )
    assert "12 steps against scratch's 24 (50 % fewer)" in verdict.sentence
    assert "37 seconds against scratch's 60 (39 % fewer)" in verdict.sentence  # 30 + 6.8
    assert verdict.sentence.endswith("all scoring and merging charged.")


def test_overhead_that_costs_more_than_it_saves_is_said(make_folder, plans):
    slow = with_plan(plans, "mashup", score=90.0)
    assert "121 seconds against scratch's 60 (101 % more)" in make_verdict(
        summary_of(make_folder(mashup=slow))
    ).sentence  # fmt: skip


def test_never_stays_never(make_folder, plans):
    bad = with_plan(plans, "mashup", end=(1.1, 0.60))
    verdict = make_verdict(summary_of(make_folder(mashup=bad)))
    assert verdict.tone == "worse"
    assert verdict.sentence.startswith("mashup is worse than scratch on tickets")
    assert "−6.0 points" in verdict.sentence
    assert verdict.sentence.endswith("it never reached scratch's final dev loss (24 steps).")


def test_a_difference_inside_the_noise_is_called_that(make_folder, plans):
    equal = with_plan(plans, "mashup", end=(0.92, 0.67))
    verdict = make_verdict(summary_of(make_folder(mashup=equal)))
    assert verdict.tone == "within noise"
    assert verdict.lead == (
        "mashup and scratch are within noise of each other on tickets (100 test examples)"
    )


def test_empty_selection_says_start_from_the_base(make_folder, plans):
    same = replace(plans["scratch"], score=6.0)
    verdict = make_verdict(summary_of(make_folder(chosen=0, mashup=same)))
    assert verdict.sentence == (
        "nothing beat the base on tickets; start from the base: mashup is scratch here, and "
        "finding out took 6.0 s."
    )
    assert verdict.notes == ("Better than scratch all the same: best-single (+5.0 points).",)


def test_one_seed_is_said_to_be_one(make_folder):
    assert make_verdict(summary_of(make_folder())).notes[-1].startswith("One seed:")


def test_several_seeds_are_means_and_never_counts_them(make_folder):
    summary = summary_of(make_folder(seeds=(1, 2, 3)))
    verdict = make_verdict(summary)
    assert verdict.notes[-1].startswith("Means over 3 seeds")
    mashup = summary.arm("mashup")
    assert mashup is not None
    assert mashup.fair is not None
    one = replace(mashup, fair=replace(mashup.fair, never=1, steps=None, seconds=None))
    arms = tuple(one if arm.name == "mashup" else arm for arm in summary.arms)
    assert make_verdict(replace(summary, arms=arms)).sentence.endswith(
        "it never reached scratch's final dev loss in 1 of 3 seeds (24 steps)."
    )


def test_controls_that_do_as_well_are_named(make_folder, plans):
    as_good = with_plan(plans, "random-two", end=(0.7, 0.76))
    notes = make_verdict(summary_of(make_folder(random_two=as_good))).notes
    assert "At least as much was gained by random-two (+10.0)." in notes


def test_a_loss_that_disagrees_is_told(make_folder):
    summary = summary_of(make_folder())
    arms = tuple(
        replace(arm, loss_gain=Difference(0.1, 0.05, 0.15)) if arm.name == "mashup" else arm
        for arm in summary.arms
    )
    notes = make_verdict(replace(summary, arms=arms)).notes
    assert notes[0] == "By test loss it is worse: 0.730 vs 0.950, +0.100 [+0.050, +0.150]."


def test_an_answer_that_never_looks_at_the_prompt_and_is_as_good_is_told(make_folder):
    told = "No arm beats the commonest answer (90.0 %): accuracy tells nothing here."
    assert told in make_verdict(summary_of(make_folder(commonest=0.9))).notes
    assert not any("commonest" in n for n in make_verdict(summary_of(make_folder())).notes)
    old = make_folder(commonest=None)
    assert not any("commonest" in n for n in make_verdict(summary_of(old)).notes)


def test_without_mashup_the_first_other_arm_is_judged(make_folder):
    folder = make_folder(mashup=None, merged_untrained=None)
    assert make_verdict(summary_of(folder)).lead == "best-single is better than scratch on tickets"


def test_scratch_alone_has_no_verdict(make_folder):
    folder = make_folder(mashup=None, best_single=None, random_two=None, merged_untrained=None)
    assert make_verdict(summary_of(folder)).sentence == "only scratch was trained on tickets."


def test_mashup_is_held_against_the_best_checkpoint_alone(make_folder, plans):
    summary = summary_of(make_folder())
    over = summary.over["best-single"]
    (told,) = (note for note in make_verdict(summary).notes if "best-single" in note)
    assert told.startswith("Against best-single, mashup is within noise: +3.0 points [")
    assert over.low <= 0 <= over.high
    rows = {row[0].text: row for row in arms_table(summary).rows}
    column = arms_table(summary).columns.index("mashup over it, points")
    assert rows["best-single"][column].value == over.value
    assert rows["scratch"][column].text == rows["mashup"][column].text == "–"
    weak = summary_of(make_folder(best_single=with_plan(plans, "best-single", end=(0.9, 0.5))))
    assert "Against best-single, mashup is better than it: +24.0" in " ".join(
        make_verdict(weak).notes
    )
