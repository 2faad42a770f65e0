"""Every number of a report is made again from its records."""

import json
import shutil

import pytest

from armresults import PLANS
from comparisons import write_comparison
from helpers import refused
from mashup import report, verify
from studies import plans, write_study


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    arms = {name: PLANS[name] for name in ("scratch", "mashup")}
    folder = write_study(tmp_path_factory.mktemp("study"), targets=("trec",), arms=arms)
    report(folder)
    return folder


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Records with budgets, seeds, draws and an untrained arm; no report."""
    names = ("scratch", "mashup", "random-1", "random-2", "merged-untrained")
    arms = {name: plans()[name] for name in names}
    folder, budgets = tmp_path_factory.mktemp("several"), (0.5, 1.0)
    return write_study(folder, targets=("trec",), seeds=(42, 43), budgets=budgets, arms=arms)


@pytest.fixture
def study(several, tmp_path):
    return shutil.copytree(several, tmp_path / "study")


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_report_agrees_with_its_records(reported):
    before = sorted(reported.rglob("*"))
    found = verify(reported)
    assert found.agrees, found.problems
    assert {check.where for check in found.checks} >= {"trec", "*.csv", "*.md", "*.html"}
    assert sorted(reported.rglob("*")) == before


def test_derived_records_agree_with_those_that_were_measured(study):
    found = verify(study)
    assert found.agrees, found.problems
    assert [(c.what, c.state) for c in found.checks] == [
        ("records", "agrees"),
        ("report", "not checked"),
    ]


def test_a_comparison_agrees_with_its_records(tmp_path):
    folder = write_comparison(tmp_path, best_single=None, random_two=None, merged_untrained=None)
    assert ("report", "not checked") in {(c.what, c.state) for c in verify(folder).checks}
    report(folder)
    assert verify(folder).agrees


def test_numbers_that_were_changed_in_the_report_are_found(reported, tmp_path):
    study = shutil.copytree(reported, tmp_path / "study")
    change(study / "report/tables/results.csv", "0.", "1.")
    (study / "report/tables/more.csv").write_text("a\n1\n")
    found = verify(study)
    assert [(p.what, p.where.rpartition("/")[2]) for p in found.problems] == [
        ("file differs from what is made again", "results.csv"),
    ]
    assert "line 2" in found.problems[0].found
    assert "more.csv" in [c.where.rpartition("/")[2] for c in found.checks]


@pytest.mark.parametrize(
    "metric", ["total_seconds", "fair_parity_steps", "test_accuracy_gain", "test_loss_gain"]
)
def test_a_derived_record_that_was_changed_is_found(study, metric):
    lines = [json.loads(line) for line in (study / "records.jsonl").read_text().splitlines()]
    changed = next(one for one in lines if one["metric"] == metric)
    changed["value"] = (changed["value"] or 0) + 0.05
    (study / "records.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    problems = [p for p in verify(study).problems if p.what == "number differs"]
    assert [p.where.endswith(metric) for p in problems] == [True]


def test_a_measured_record_that_was_changed_no_longer_gives_the_gain(study):
    lines = [json.loads(line) for line in (study / "records.jsonl").read_text().splitlines()]
    last = [o for o in lines if o["arm"] == "mashup" and o["metric"] == "test_accuracy"][-1]
    last["value"] += 0.1
    (study / "records.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert any("test_accuracy_gain" in p.where for p in verify(study).problems)


def test_a_folder_without_records(study):
    (study / "records.jsonl").write_text("")
    with refused("no records yet"):
        verify(study)


def test_accuracies_by_labels_and_the_labels_that_scratch_needs_are_made_again(tmp_path):
    arms = {name: plans()[name] for name in ("scratch", "mashup")}
    sizes = {"trec": (16, 256), "sst2": (16,)}
    study = write_study(tmp_path, targets=("trec", "sst2"), arms=arms, sizes=sizes)
    found = verify(study)
    assert found.agrees, found.problems
    assert {check.where for check in found.checks} >= {"trec@16", "trec@256", "*@16", "*@64"}
    lines = [json.loads(line) for line in (study / "records.jsonl").read_text().splitlines()]
    for metric in ("test_accuracy_mean", "scratch_labels"):
        changed = [one for one in lines if one["metric"] == metric and one["value"]]
        changed[0]["value"] *= 1.1
    (study / "records.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    names = {problem.where.rpartition(" ")[2] for problem in verify(study).problems}
    assert names == {"test_accuracy_mean", "scratch_labels"}
