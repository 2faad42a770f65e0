"""Sending a report to a tracker: stand-ins with the calls of MLflow and Weights & Biases."""

import contextlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import mashup
from mashup._report.trackers import curves_of, rows_of, send
from mashup._report.write import read_studies


@pytest.fixture
def sent(study_folder, written):
    """Sends the report of the whole experiment; returns its study."""

    def send_to(tracker):
        studies = read_studies([study_folder])
        files = [path for path in sorted(written.rglob("*.*")) if path.is_file()]
        send(studies, files, written, tracker)
        return studies[0]

    return send_to


@pytest.fixture
def mlflow(monkeypatch):
    sent = SimpleNamespace(runs=[], tags={}, metrics=[], dicts={}, files=[])

    @contextlib.contextmanager
    def start_run(run_name):
        sent.runs.append(run_name)
        yield SimpleNamespace(info=SimpleNamespace(run_id="1"))

    def log_batch(run_id, metrics):
        assert len(metrics) <= 1000  # MLflow refuses more
        sent.metrics += metrics

    made = SimpleNamespace(
        start_run=start_run, set_tags=sent.tags.update,
        MlflowClient=lambda: SimpleNamespace(log_batch=log_batch),
        log_dict=lambda value, name: sent.dicts.update({name: value}),
        log_artifact=lambda path, folder: sent.files.append((Path(path).name, folder)),
    )  # fmt: skip
    entities = SimpleNamespace(Metric=lambda *given: given)
    monkeypatch.setitem(sys.modules, "mlflow", made)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return sent


def test_mlflow_gets_arms_curves_sources_and_files(mlflow, sent):
    study = sent("mlflow")
    assert mlflow.runs == [study.name]
    values = {(name, step): value for name, value, _, step in mlflow.metrics}
    assert all(set(name) <= set(_ALLOWED) for name, _ in values)
    for target in study.targets:
        for arm in target.arms:
            assert values[f"{target.task}/{arm.name}/accuracy", 0] == arm.accuracy
        chosen = [one.name for one in target.sources if one.chosen]
        assert mlflow.tags[f"mashup.sources.{target.task}"] == (", ".join(chosen) or "none")
    run = study.targets[0].arms[0].runs[0]
    name = f"{study.targets[0].task}/{study.targets[0].arms[0].name}/seed {run.seed}/dev_loss"
    assert [values[name, point.step] for point in run.points] == [p.dev_loss for p in run.points]
    assert mlflow.dicts["rows.json"]["rows"] == rows_of(study)
    assert ("index.html", "report") in mlflow.files
    assert ("arms.csv", "report/tables") in mlflow.files
    assert len(mlflow.files) == len(set(mlflow.files))


_ALLOWED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-. :/"


def test_wandb_gets_tables_and_an_artifact(monkeypatch, sent):
    logged, files, summary, given = {}, [], {}, {}
    run = SimpleNamespace(log=logged.update, summary=summary, log_artifact=lambda _: None)

    @contextlib.contextmanager
    def init(**options):
        given.update(options)
        yield run

    fake = SimpleNamespace(
        init=init, Table=lambda columns, data: (columns, data),
        Artifact=lambda *_: SimpleNamespace(add_file=lambda path, name: files.append(name)),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    study = sent("wandb")
    assert (given["project"], given["name"]) == ("mine", study.name)
    columns, data = logged["curves"]
    assert [dict(zip(columns, row, strict=True)) for row in data] == curves_of(study)
    assert {"index.html", "report.md", "tables/arms.csv"} <= set(files)
    first = study.targets[0]
    assert summary[f"{first.task}/scratch/accuracy"] == first.scratch.accuracy


@pytest.mark.parametrize(
    ("tracker", "found"), [("tensorboard", "mlflow or wandb"), ("wandb", "mashup-learning.wandb")]
)
def test_a_tracker_that_cannot_be_used_is_refused_before_anything_is_written(
    monkeypatch, study_folder, tmp_path, tracker, found
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(mashup.UsageError, match=found):
        mashup.report(study_folder, tmp_path / "out", report_to=tracker)
    assert not (tmp_path / "out").exists()


def test_what_the_server_says_is_a_problem_and_the_report_is_there(
    monkeypatch, study_folder, tmp_path
):
    def init(**_):
        raise ConnectionError("no route to host")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    with pytest.raises(mashup.UsageError, match="the tracker refuses") as caught:
        mashup.report(study_folder, tmp_path / "out", report_to="wandb")
    assert "no route to host" in str(caught.value)
    assert (tmp_path / "out/index.html").exists()
