"""Sentences say what their numbers say."""

import pytest

from armresults import PLANS, Plan
from mashup._report.experiment.material import read_folders
from mashup._report.experiment.summarise import make_study
from mashup._report.experiment.tables import contrasts_table
from mashup._report.experiment.verdicts import in_words, lead, rounded, verdict
from mashup.results.statistics import Difference
from studies import write_study


def study_of(tmp_path, **mashup):
    arms = {"scratch": PLANS["scratch"], "mashup": Plan((1.5, 0.35), **mashup)}
    (folder,) = read_folders([write_study(tmp_path, arms=arms)])
    return make_study(folder)


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


@pytest.mark.parametrize(("value", "shown"), [(0.2, 1), (7.2, 8), (123.4, 130), (98765, 99000)])
def test_estimates_have_two_digits(value, shown):
    assert rounded(value) == shown


def test_better_worse_and_noise_lead_the_report(tmp_path):
    assert lead(study_of(tmp_path / "b", end=(0.6, 0.8))).answer == "mashup is better than scratch"
    assert lead(study_of(tmp_path / "w", end=(0.99, 0.5))).tone == "worse"
    noise = lead(study_of(tmp_path / "n", end=(0.92, 0.65)))
    assert noise.answer == "mashup and scratch are within noise of each other"
    assert "examples" in noise.numbers


def test_few_targets_are_told_that_they_can_prove_nothing(tmp_path):
    told = lead(study_of(tmp_path, end=(0.6, 0.8))).numbers
    assert "with 4 targets it cannot be below 0.12" in told


def test_the_best_donor_has_its_sentence_and_the_others_a_row_of_the_table(study_folder):
    (folder,) = read_folders([study_folder])
    study = make_study(folder)
    (rival,) = in_words(study)
    assert rival.startswith("mashup against best-single:")
    rows = {row[0].text for row in contrasts_table(study).table.rows}
    assert {"mashup − average-all", "random − scratch"} <= rows


def test_only_scratch_has_no_verdict(tmp_path):
    (folder,) = read_folders([write_study(tmp_path, arms={"scratch": PLANS["scratch"]})])
    assert lead(make_study(folder)).answer == "only scratch was trained in small"


def _blind(tmp_path, commonest):
    arms = {"scratch": PLANS["scratch"], "mashup": Plan((1.5, 0.35), end=(0.6, 0.8))}
    (folder,) = read_folders([write_study(tmp_path, arms=arms, commonest=commonest)])
    return in_words(make_study(folder))


def test_targets_on_which_the_commonest_answer_is_as_good_are_named(tmp_path):
    (told,) = _blind(tmp_path / "a", 0.77)  # mashup has 80, 78, 76 and 74 %
    assert told == (
        "no arm beats the commonest answer on mrpc and tweet_emotion (77.0 % and 77.0 %): accuracy "
        "tells nothing there"
    )
    assert _blind(tmp_path / "b", 0.3) == ()
    assert _blind(tmp_path / "old", None) == ()
