"""Every number of a report is made again from its records."""

import json
import shutil

import pytest

from armresults import PLANS
from comparisons import write_comparison
from experiments import write_experiment, write_tasks
from helpers import refused
from mashup import report, verify
from mashup.experiment.run import prepare, run_jobs
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
        ("runs", "not checked"),
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


@pytest.fixture(scope="module")
def ran(tiny_base, tmp_path_factory):
    """A real experiment with two seeds, its jobs in a folder of its own."""
    room = tmp_path_factory.mktemp("ran")
    few = {"seeds": [1, 2], "learning_rates": [0.01], "arms": ["scratch", "mashup"]}
    experiment = write_experiment(room / "x.yaml", tiny_base, write_tasks(room), **few)
    run_jobs(prepare(experiment, room / "out", jobs=room / "jobs"))
    return room


def runs_of(folder):
    return [(c.where, c.state) for c in verify(folder).checks if c.what == "runs"]


@pytest.fixture
def moved(ran, tmp_path):
    """The experiment elsewhere without its pages, its jobs beside its records."""
    folder = shutil.copytree(ran / "out", tmp_path / "out")
    shutil.rmtree(folder / "report")
    shutil.copytree(ran / "jobs", folder / "jobs")
    (folder / "store.json").unlink()
    return folder


def test_every_record_is_made_again_from_the_runs_where_they_are(ran, moved):
    for folder in (ran / "out", moved):
        found = verify(folder)
        assert found.agrees, found.problems
        assert runs_of(folder) == [("one", "agrees")]


@pytest.mark.parametrize("name", ["value", "low", "high"])
def test_a_changed_interval_is_found_by_the_examples_of_the_runs(moved, name):
    lines = [json.loads(line) for line in (moved / "records.jsonl").read_text().splitlines()]
    gain = next(o for o in lines if o["metric"] == "test_accuracy_gain" and o["budget"] == 1.0)
    gain[name] += 0.01
    (moved / "records.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    wrong = [p.where for p in verify(moved).problems if p.where.endswith(f", {name}")]
    assert len(wrong) == 1
    assert "arm mashup" in wrong[0]
    assert "metric test_accuracy_gain" in wrong[0]


def test_a_run_whose_examples_were_changed_is_found(moved):
    for path in (moved / "jobs").rglob("test.json"):
        values = json.loads(path.read_text())
        values["losses"] = [2 * one + 0.1 * place for place, one in enumerate(values["losses"])]
        path.write_text(json.dumps(values))
    assert any("test_loss_gain" in p.where for p in verify(moved).problems)


def test_a_record_that_was_deleted_is_found(moved):
    lines = (moved / "records.jsonl").read_text().splitlines()
    kept = [line for line in lines if '"test_accuracy_gain"' not in line]
    (moved / "records.jsonl").write_text("".join(line + "\n" for line in kept))
    problems = [p for p in verify(moved).problems if "test_accuracy_gain" in p.where]
    assert problems
    assert all(p.found == "None" for p in problems)


def test_runs_that_are_not_here_are_told(moved):
    shutil.rmtree(moved / "jobs")
    assert runs_of(moved) == [("one", "not checked")]
    assert verify(moved).agrees
    (moved / "layout.json").write_text("{}")
    with refused("damaged file"):
        verify(moved)
