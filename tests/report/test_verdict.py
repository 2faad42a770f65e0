"""The sentence that comes first: better, worse, noise, never, nothing to start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from armresults import PLANS, Plan
from mashup._report.study import End, Study
from mashup._report.summarise import make_contrasts
from mashup._report.tables import arms_table, contrasts_table
from mashup._report.verdict import make_verdict, verdict
from mashup._report.write import read_studies
from mashup.results.statistics import Difference
from studies import write_study


def study_in(folder: Path) -> Study:
    (study,) = read_studies([folder])
    return study


def with_plan(plans, name, **changes):
    return replace(plans[name], **changes)


def with_mashup(study, **changes):
    """A comparison in which mashup is another."""
    (target,) = study.targets
    arms = tuple(replace(a, **changes) if a.name == "mashup" else a for a in target.arms)
    targets = (replace(target, arms=arms),)
    return replace(study, targets=targets, contrasts=make_contrasts(targets))


# A comparison: one target


def test_better_says_accuracy_interval_steps_and_seconds_with_overhead(make_folder):
    found = make_verdict(study_in(make_folder()))
    assert found.tone == "better"
    assert found.sentence.startswith(
        "mashup is better than scratch on tickets: test accuracy 74.0 % vs 66.0 %, +8.0 points "
        "[95 % interval +3.0, +14.0]; it reached scratch's final dev loss after "
    )
    assert "12 steps against 24 (50 % fewer)" in found.sentence
    assert "37 seconds against 60 (39 % fewer)" in found.sentence  # 30 + 6.8
    assert found.sentence.endswith("all scoring and merging charged.")


def test_overhead_that_costs_more_than_it_saves_is_said(make_folder, plans):
    slow = with_plan(plans, "mashup", score=90.0)
    sentence = make_verdict(study_in(make_folder(mashup=slow))).sentence
    assert "121 seconds against 60 (101 % more)" in sentence


def test_never_stays_never(make_folder, plans):
    bad = with_plan(plans, "mashup", end=(1.1, 0.60))
    found = make_verdict(study_in(make_folder(mashup=bad)))
    assert found.tone == "worse"
    assert found.sentence.startswith("mashup is worse than scratch on tickets")
    assert "−6.0 points" in found.sentence
    assert found.sentence.endswith("it never reached scratch's final dev loss (24 steps).")


def test_a_difference_inside_the_noise_is_called_that(make_folder, plans):
    equal = with_plan(plans, "mashup", end=(0.92, 0.67))
    found = make_verdict(study_in(make_folder(mashup=equal)))
    assert found.tone == "within noise"
    assert found.lead == (
        "mashup and scratch are within noise of each other on tickets (100 test examples)"
    )
    assert found.clauses[-1].startswith("needs about")


def test_empty_selection_says_start_from_the_base(make_folder, plans):
    same = replace(plans["scratch"], score=6.0)
    found = make_verdict(study_in(make_folder(chosen=0, mashup=same)))
    assert found.sentence == (
        "nothing beat the base on tickets; start from the base: mashup is scratch here, and "
        "scoring took 6.0 s."
    )
    assert found.notes == ("Better than scratch nevertheless: best-single (+5.0 points).",)


def test_one_seed_is_said_to_be_one(make_folder):
    assert make_verdict(study_in(make_folder())).notes[-1].startswith("One seed:")


def test_several_seeds_are_means_and_never_counts_them(make_folder):
    study = study_in(make_folder(seeds=(1, 2, 3)))
    found = make_verdict(study)
    assert found.notes[-1].startswith("Means over 3 seeds")
    fair = study.targets[0].arm("mashup").fair
    once = with_mashup(study, fair=replace(fair, never=1, steps=None, seconds=None))
    assert make_verdict(once).sentence.endswith(
        "it never reached scratch's final dev loss in 1 of 3 seeds (24 steps)."
    )


def test_controls_that_do_as_well_are_named(make_folder, plans):
    as_good = with_plan(plans, "random-two", end=(0.7, 0.76))
    notes = make_verdict(study_in(make_folder(random_two=as_good))).notes
    assert "These controls gained at least as much: random-two (+10.0)." in notes


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ((0.9, 0.8, 0.7), "the largest of the grid for scratch"),
        ((0.7, 0.8, None), "the smallest of the grid for scratch"),
        ((0.8, 0.7, None), ""),
        ((0.7, 0.7, 0.7), ""),  # the start was kept: rates made no difference
        ((0.7,), ""),
    ],
)
def test_a_best_rate_at_the_end_of_the_grid_is_said(make_folder, losses, words):
    study = study_in(make_folder())
    ends = tuple(
        End("scratch", 1, 1e-3 * (n + 1), loss, None, None) for n, loss in enumerate(losses)
    )
    (target,) = study.targets
    notes = make_verdict(replace(study, targets=(replace(target, ends=ends),))).notes
    expected = f"The best learning rate is {words}: a wider grid may change the difference."
    assert [note for note in notes if "grid" in note] == [expected] * bool(words)


def test_one_learning_rate_for_every_arm_is_said(make_folder):
    told = "Every arm has the learning rate 0.0005: another may suit one of them better."
    assert told in make_verdict(study_in(make_folder(about={"learning_rates": [5e-4]}))).notes
    wide = make_folder(about={"learning_rates": [5e-4, 1e-3]})
    assert told not in make_verdict(study_in(wide)).notes


def test_a_loss_that_disagrees_is_told(make_folder):
    study = with_mashup(study_in(make_folder()), loss_gain=Difference(0.1, 0.05, 0.15))
    notes = make_verdict(study).notes
    assert notes[0] == "By test loss it is worse: 0.730 vs 0.950, +0.100 [+0.050, +0.150]."


def test_an_answer_that_never_looks_at_the_prompt_and_is_as_good_is_told(make_folder):
    told = "No arm beats the commonest answer on tickets (90.0 %): accuracy says nothing there."
    assert told in make_verdict(study_in(make_folder(commonest=0.9))).notes
    assert not any("commonest" in n for n in make_verdict(study_in(make_folder())).notes)
    old = make_folder(commonest=None)
    assert not any("commonest" in n for n in make_verdict(study_in(old)).notes)


def test_without_mashup_the_first_other_arm_is_judged(make_folder):
    folder = make_folder(mashup=None, merged_untrained=None)
    assert make_verdict(study_in(folder)).lead == "best-single is better than scratch on tickets"


def test_scratch_alone_has_no_verdict(make_folder):
    folder = make_folder(mashup=None, best_single=None, random_two=None, merged_untrained=None)
    assert make_verdict(study_in(folder)).sentence == "only scratch was trained on tickets."


def test_mashup_is_held_against_the_best_checkpoint_alone(make_folder, plans):
    study = study_in(make_folder())
    over = study.targets[0].over["best-single"]
    (told,) = (note for note in make_verdict(study).notes if "best-single" in note)
    assert told.startswith("Mashup against best-single: within noise at this size: needs about ")
    assert ", +3.0 points [" in told
    assert over.low <= 0 <= over.high
    rows = {row[0].text: row for row in arms_table(study).rows}
    column = arms_table(study).columns.index("mashup over it, points")
    assert rows["best-single"][column].value == over.value
    assert rows["scratch"][column].text == rows["mashup"][column].text == "–"
    weak = study_in(make_folder(best_single=with_plan(plans, "best-single", end=(0.9, 0.5))))
    assert "Mashup against best-single: better than best-single, +24.0 points" in " ".join(
        make_verdict(weak).notes
    )


# An experiment: several targets


def of_targets(tmp_path, commonest=0.3, **mashup):
    arms = {"scratch": PLANS["scratch"], "mashup": Plan((1.5, 0.35), **mashup)}
    return study_in(write_study(tmp_path, arms=arms, commonest=commonest))


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (Difference(0.05, 0.01, 0.09), "better"),
        (Difference(-0.05, -0.09, -0.01), "worse"),
        (Difference(0.02, -0.02, 0.06), "needs about 300 more examples"),
        (Difference(0.001, -0.04, 0.042), "more than 100 times the examples"),
        (Difference(0.0, -0.04, 0.04), "no difference was seen"),
    ],
)
def test_verdicts(gain, words):
    assert words in verdict(gain, 100)
    assert ("within noise" in verdict(gain, 100)) == (gain.low <= 0 <= gain.high)


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (Difference(0.02, -0.02, 0.06), "needs about 4.0 times the examples and seeds"),
        (Difference(0.01, -0.05, 0.07), "needs about 36 times the examples and seeds"),
        (Difference(0.001, -0.04, 0.042), "more than 100 times the examples and seeds"),
    ],
)
def test_several_seeds_are_in_the_interval_and_in_what_is_missing(gain, words):
    assert words in verdict(gain, 100, seeds=3)


def test_better_worse_and_noise_lead_the_report(tmp_path):
    better = make_verdict(of_targets(tmp_path / "b", end=(0.6, 0.8)))
    assert better.lead == "mashup is better than scratch"
    assert make_verdict(of_targets(tmp_path / "w", end=(0.99, 0.5))).tone == "worse"
    noise = make_verdict(of_targets(tmp_path / "n", end=(0.92, 0.65)))
    assert noise.lead == "mashup and scratch are within noise of each other"
    assert "examples" in noise.numbers


def test_few_targets_are_told_that_they_can_prove_nothing(tmp_path):
    told = make_verdict(of_targets(tmp_path, end=(0.6, 0.8))).numbers
    assert "with 4 targets it cannot be below 0.12" in told


def test_the_best_source_has_its_sentence_and_the_others_a_row_of_the_table(study_folder):
    study = study_in(study_folder)
    (rival,) = (note for note in make_verdict(study).notes if "best-single" in note)
    assert rival.startswith("Mashup against best-single:")
    assert "on average of 4 targets" in rival
    rows = {row[0].text for row in contrasts_table(study).rows}
    assert {"mashup − average-all", "random − scratch"} <= rows


def test_only_scratch_has_no_verdict(tmp_path):
    study = study_in(write_study(tmp_path, arms={"scratch": PLANS["scratch"]}))
    assert make_verdict(study).lead == "only scratch was trained on small"


def test_targets_on_which_the_commonest_answer_is_as_good_are_named(tmp_path):
    def blind(folder, commonest):
        notes = make_verdict(of_targets(tmp_path / folder, commonest, end=(0.6, 0.8))).notes
        return [note for note in notes if "commonest" in note]

    assert blind("a", 0.77) == [  # mashup has 80, 78, 76 and 74 %
        "No arm beats the commonest answer on mrpc and tweet_emotion (77.0 % and 77.0 %): accuracy "
        "says nothing there."
    ]
    assert blind("b", 0.3) == []
    assert blind("old", None) == []
