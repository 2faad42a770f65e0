"""``mashup loo`` as a user meets it: what would be done, doing it, how far it is, mistakes."""

import json

import pytest

from experiments import write_experiment, write_tasks
from mashup.experiment.settings import read_experiment


@pytest.fixture
def recipe(tiny_base, tmp_path):
    path = tmp_path / "tiny.yaml"
    write_experiment(path, tiny_base, write_tasks(tmp_path), seeds=[1], learning_rates=[0.01])
    return path


def test_a_dry_run_lists_jobs_and_does_nothing(mashup, recipe, tmp_path):
    code, out, _ = mashup("loo", recipe, "-o", tmp_path / "out", "--dry-run")
    assert code == 0
    assert "train two seed 42 rate 0.01" in " ".join(out.split())
    assert "6 jobs, 0 done, about" in out
    code, out, _ = mashup("loo", recipe, "-o", tmp_path / "out", "--dry-run", "--json")
    listed = json.loads(out)
    assert all(job["seconds"] > 0 and not job["done"] for job in listed["jobs"])
    assert listed["bytes"] > 0
    assert not list((tmp_path / "out").rglob("result.json"))


def test_a_dry_run_counts_the_fixed_seconds_of_every_job(mashup, recipe, tmp_path):
    _, out, err = mashup("loo", recipe, "-o", tmp_path / "out", "--dry-run", "--json")
    jobs = json.loads(out)["jobs"]
    assert "loading the base" in err
    trained = [job["seconds"] for job in jobs if job["job"].startswith("train")]
    assert min(trained) > 1.3
    assert len(trained) == 4


def test_variants_are_picked_like_arms(mashup, tiny_base, tmp_path):
    write_experiment(
        tmp_path / "v.yaml", tiny_base, write_tasks(tmp_path), seeds=[1], learning_rates=[0.01],
        variants={"k1": {"choose": {"k": 1}}, "half": {"merge": {"scale": 0.5}}},
    )  # fmt: skip
    recipe, dry = tmp_path / "v.yaml", ("--dry-run", "--json")
    code, out, _ = mashup("loo", recipe, "-o", tmp_path / "out", "--arms", "scratch,half", *dry)
    jobs = [job["job"] for job in json.loads(out)["jobs"]]
    assert code == 0
    assert "train one half seed 1 rate 0.01" in jobs
    assert "train one scratch seed 1 rate 0.01" in jobs
    assert not [job for job in jobs if "k1" in job or "mashup seed" in job]
    code, _, err = mashup("loo", recipe, "-o", tmp_path / "out", "--arms", "k2", *dry)
    assert code == 2
    assert "half, k1" in " ".join(err.split())


def test_an_experiment_is_run_and_then_said_to_be_done(mashup, recipe, tmp_path):
    code, out, err = mashup("loo", recipe, "-o", tmp_path / "out")
    assert (code, out.split()[1]) == (0, "records:")
    assert "job 1 of 6: train three seed 42 rate 0.01" in err
    assert "6 of 6 jobs are done" in err
    code, out, _ = mashup("loo", "--status", tmp_path / "out", "--json")
    rows = json.loads(out)["rows"]
    assert code == 0
    assert {row["kind"]: (row["done"], row["left"]) for row in rows} == {
        "train": (4, 0), "score": (1, 0), "init": (1, 0),
    }  # fmt: skip
    code, out, _ = mashup("loo", "--status", tmp_path / "out")
    assert out.split()[:5] == ["jobs", "done", "running", "left", "about"]


@pytest.mark.parametrize(
    ("more", "what", "code"),
    [
        (("--arms", "mash"), "unknown arm", 2),
        (("--model", "nowhere/at-all"), "no such base model", 3),
    ],
)
def test_mistakes_are_told(mashup, recipe, tmp_path, more, what, code):
    found, out, err = mashup("loo", recipe, "-o", tmp_path / "out", *more)
    assert (found, out) == (code, "")
    assert what in " ".join(err.split())
    assert "Traceback" not in err


def test_a_folder_without_an_experiment_is_told(mashup, tmp_path):
    code, _, err = mashup("loo", "--status", tmp_path)
    assert code == 2
    assert "no experiment here" in err


@pytest.mark.parametrize(("text", "code"), [("{", 3), ('{"name": "x", "bose": 1}', 2)])
def test_a_damaged_experiment_is_told_without_a_traceback(mashup, tmp_path, text, code):
    (tmp_path / "experiment.json").write_text(text)
    found, _, err = mashup("loo", "--status", tmp_path)
    assert found == code
    assert "experiment.json" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"jobs": 3}', "[" * 100_000])
def test_a_damaged_note_of_where_jobs_are_is_told(mashup, recipe, tmp_path, text):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "experiment.json").write_text(read_experiment(recipe).model_dump_json())
    (folder / "store.json").write_text(text)
    code, _, err = mashup("loo", "--status", folder)
    assert code == 3
    assert "damaged file" in err
    assert "store.json" in err
    assert "Traceback" not in err


def test_data_that_cannot_be_read_is_told_before_anything_runs(mashup, recipe, tmp_path):
    (tmp_path / "one.jsonl").write_text("{")
    (tmp_path / "two.jsonl").write_text("")
    code, _, err = mashup("loo", recipe, "-o", tmp_path / "out")
    assert code == 3
    assert "one.jsonl" in err
    assert "two.jsonl" in err


def test_a_subset_of_targets_is_run_and_reported_without_the_rest(mashup, tiny_base, tmp_path):
    recipe = tmp_path / "two.yaml"
    more = {"targets": ["one", "two"], "seeds": [1], "learning_rates": [0.01]}
    write_experiment(recipe, tiny_base, write_tasks(tmp_path), arms=["scratch"], **more)
    code, _, err = mashup("loo", recipe, "-o", tmp_path / "out", "--targets", "tw*")
    assert code == 0
    assert "3 of 3 jobs are done" in err
    code, out, err = mashup("loo", recipe, "-o", tmp_path / "out", "--report", "--json")
    assert code == 0
    assert {record["task"] for record in json.loads(out)} == {"two"}
    assert "job 1 of" not in err
    code, _, err = mashup("loo", recipe, "-o", tmp_path / "out", "--targets", "four")
    assert code == 2
    assert "unknown target" in err
