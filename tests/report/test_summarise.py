"""From records to values: pools of draws, comparisons, donors."""

from dataclasses import replace

import pytest

from armresults import PLANS
from mashup._report.figures import rates_of
from mashup._report.material import read_folders
from mashup._report.sources import agreement, knowledge_grid, relevance_grid
from mashup._report.summarise import make_study
from mashup.results.records import read_records
from mashup.results.significance import holm, wilcoxon_p
from studies import RATES, TARGETS, plans, write_study


@pytest.fixture(scope="module")
def study(study_folder):
    (folder,) = read_folders([study_folder])
    return make_study(folder)


def test_draws_of_an_arm_are_one_row(study):
    assert "random" in study.arms
    assert not [arm for arm in study.arms if arm.startswith(("random-", "single-"))]
    row = study.targets[0].arm("random")
    assert len(row.runs) == 2 * 2  # draws × seeds
    assert row.accuracy == pytest.approx(sum(run.last.test_accuracy for run in row.runs) / 4)


def test_a_pool_is_compared_by_the_mean_of_its_draws(study, study_folder):
    records = [r for r in read_records(study_folder / "records.jsonl") if r.task == TARGETS[0]]
    gains = {r.arm: r.value for r in records if r.metric == "test_accuracy_gain"}
    assert gains["random"] == pytest.approx((gains["random-1"] + gains["random-2"]) / 2)
    assert study.targets[0].arm("random").accuracy_gain.value == pytest.approx(gains["random"])


def test_every_arm_is_compared_with_scratch_and_mashup_with_every_control(study):
    pairs = {(one.arm, one.other) for one in study.contrasts}
    controls = set(study.arms) - {"scratch", "mashup", "merged-untrained"}
    assert pairs == {(arm, "scratch") for arm in controls | {"mashup"}} | {
        ("mashup", arm) for arm in controls
    }


def test_a_comparison_is_the_mean_over_targets_with_its_test(study):
    one = study.contrast("mashup")
    gains = [target.arm("mashup").accuracy_gain.value for target in study.targets]
    assert one.gain.value == pytest.approx(sum(gains) / len(gains))
    assert one.p == wilcoxon_p(gains)
    assert one.holm == holm([c.p for c in study.contrasts])[study.contrasts.index(one)]
    assert one.examples == 100 * len(TARGETS)
    assert one.count("better") == len(TARGETS)


def test_sources_are_known_with_what_training_from_them_gained(study):
    first = study.targets[0]
    assert [one.name for one in first.sources] == list(TARGETS[1:])
    assert [one.chosen for one in first.sources] == [False, True, True]
    assert first.sources[0].difference == pytest.approx(2.4 - 2.6)
    assert first.sources[0].single is not None
    assert first.base.loss == 2.6
    assert agreement(first) == pytest.approx(1.0)  # both rise from source to source


def test_without_single_runs_there_is_no_agreement(tmp_path):
    (folder,) = read_folders([write_study(tmp_path)])
    target = make_study(folder).targets[0]
    assert all(one.single is None for one in target.sources)
    assert agreement(target) is None


def test_targets_that_lack_an_arm_do_not_hide_it(tmp_path):
    path = write_study(tmp_path / "one")
    records = read_records(path / "records.jsonl")
    kept = [r for r in records if (r.task, r.arm) != (TARGETS[0], "average-all")]
    (folder,) = read_folders([path])
    study = make_study(replace(folder, records=tuple(kept)))
    assert len(study.rows("average-all")) == len(TARGETS) - 1
    assert len(study.contrast("average-all").gains) == len(TARGETS) - 1


def test_scratch_alone_is_an_experiment_too(tmp_path):
    (folder,) = read_folders([write_study(tmp_path, arms={"scratch": PLANS["scratch"]})])
    study = make_study(folder)
    assert study.contrasts == ()
    assert study.subject == ""


def test_the_picture_of_rates_joins_only_rates_of_the_same_targets_and_seeds(tmp_path):
    path = write_study(tmp_path / "one", seeds=(42, 43))
    (folder,) = read_folders([path])
    taken = dict(zip(TARGETS, (RATES[0], RATES[1], RATES[1], RATES[1]), strict=True))

    def kept(record):
        lone = record.arm == "scratch-longer" and record.learning_rate is not None
        return not lone or record.learning_rate == taken[record.task]

    study = make_study(replace(folder, records=tuple(filter(kept, folder.records))))
    assert rates_of(study, "scratch") == sorted(RATES)
    assert rates_of(study, "mashup") == sorted(RATES[:2])  # the largest diverged
    assert rates_of(study, "scratch-longer") == []


def test_sources_and_targets_of_the_matrix_stand_in_one_order(study):
    grid = relevance_grid(study)
    assert grid.rows == grid.columns == TARGETS
    assert knowledge_grid(study) is None


def test_known_arms_are_those_that_were_planned(study):
    assert set(plans()) - {"random-1", "random-2"} <= set(study.arms)


def test_knowledge_is_shown_where_it_was_recorded(tmp_path):
    (folder,) = read_folders([write_study(tmp_path)])
    more = [
        replace(one, metric=f"relevance_{name}", value=value)
        for one in folder.records
        if one.metric == "relevance_loss"
        for name, value in (("form", 0.2), ("knowledge", 0.4), ("knowledge_error", 0.05))
    ]
    study = make_study(replace(folder, records=folder.records + tuple(more)))
    assert set(knowledge_grid(study).values.values()) == {0.4}
    assert study.targets[0].sources[0].knowledge_error == 0.05
