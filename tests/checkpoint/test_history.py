from pathlib import Path

import pytest

from helpers import write_json
from mashup.checkpoint.history import read_best_step, read_metric, read_task, run_of, step_of


def test_a_step_folder_belongs_to_the_run_above_it():
    assert (step_of(Path("run/checkpoint-20")), run_of(Path("run/checkpoint-20"))) == (
        20,
        Path("run"),
    )
    assert (step_of(Path("run")), run_of(Path("run"))) == (None, Path("run"))
    assert step_of(Path("run/checkpoint-last")) is None


@pytest.mark.parametrize(
    ("manifest", "task"),
    [
        ({"task": {"name": "tickets", "digest": "0"}}, "tickets"),
        ({"task": "tickets"}, "tickets"),
        ({"task": {"name": None}}, ""),
        ({}, ""),
        (["tickets"], ""),
    ],
)
def test_the_task_is_what_our_manifest_names(tmp_path, manifest, task):
    write_json(tmp_path / "mashup.json", manifest)
    assert read_task(tmp_path) == task


def test_a_folder_that_tells_nothing_has_no_history(tmp_path):
    assert read_task(tmp_path) == ""
    assert read_metric(tmp_path) is None
    assert read_best_step(tmp_path) is None


def test_the_metric_comes_from_the_best_source_that_has_one(tmp_path):
    log = [{"loss": 2.0, "step": 1}, {"loss": 1.0, "step": 2}, {"eval_loss": 1.5, "step": 2}]
    write_json(tmp_path / "trainer_state.json", {"log_history": log})
    assert read_metric(tmp_path) == ("eval_loss", 1.5)
    write_json(tmp_path / "all_results.json", {"train_loss": 1.25, "epoch": 1})
    assert read_metric(tmp_path) == ("train_loss", 1.25)
    write_json(tmp_path / "mashup.json", {"metrics": {"test_loss": 1, "test_accuracy": 0.75}})
    assert read_metric(tmp_path) == ("test_accuracy", 0.75)


def test_the_last_of_a_logged_metric_counts(tmp_path):
    log = [{"loss": 2.0}, {"loss": 1.0}]
    write_json(tmp_path / "trainer_state.json", {"log_history": log})
    assert read_metric(tmp_path) == ("loss", 1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5", None])
def test_what_is_no_finite_number_is_no_metric(tmp_path, value):
    write_json(tmp_path / "all_results.json", {"eval_accuracy": value, "train_loss": 1.5})
    assert read_metric(tmp_path) == ("train_loss", 1.5)


@pytest.mark.parametrize(
    ("state", "step"),
    [
        ({"best_model_checkpoint": "/old/place/run/checkpoint-20", "best_global_step": 30}, 20),
        ({"best_model_checkpoint": r"C:\runs\checkpoint-40"}, 40),
        ({"best_model_checkpoint": None, "best_global_step": 30}, 30),
        ({"best_global_step": None}, None),
        ({"best_global_step": "30"}, None),
    ],
)
def test_the_best_step_is_what_the_trainer_noted(tmp_path, state, step):
    write_json(tmp_path / "trainer_state.json", state)
    assert read_best_step(tmp_path) == step
