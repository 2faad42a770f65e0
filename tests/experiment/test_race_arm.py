"""A race of starts and rates as an arm of experiments and comparisons."""

import json

import pytest

from experiments import write_experiment, write_tasks
from mashup import Run
from mashup.experiment.run import prepare, run_jobs


@pytest.fixture(scope="module")
def done(tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("race")
    experiment = write_experiment(
        folder / "race.yaml", tiny_base, write_tasks(folder), arms=["mashup", "race"], seeds=[1],
        learning_rates=[0.02, 0.01],
        train={"max_steps": 4, "batch_size": 4, "evaluations": 4, "lora_target_modules": "q_proj"},
    )  # fmt: skip
    prepared = prepare(experiment, folder / "out")
    return prepared, run_jobs(prepared)


def facts_of(prepared):
    (cell,) = (one for one in prepared.plan.cells if one.arm == "race")
    return prepared.store.result(cell.runs[0])


def test_a_race_is_an_arm_with_a_curve_and_a_gain(done):
    _, records = done
    metrics = {record.metric for record in records if record.arm == "race"}
    assert metrics >= {"dev_loss", "test_accuracy_gain", "fair_parity_steps", "total_seconds"}
    assert "test_accuracy_gain_over_race" in {r.metric for r in records if r.arm == "mashup"}


def test_a_race_is_estimated_with_the_steps_of_all_its_lanes(done):
    prepared, _ = done
    (race,) = (one for one in prepared.plan.cells if one.arm == "race")
    (scratch, *_) = (one for one in prepared.plan.cells if one.arm == "scratch")
    path = prepared.store.place(facts_of(prepared)["path"]) / "race.json"
    steps = json.loads(path.read_text())["steps"].values()
    estimate = [prepared.work[one.runs[0]].tokens for one in (race, scratch)]
    assert sum(steps) / 4 > 2  # the single run has four
    assert estimate[0] / estimate[1] > 0.6 * sum(steps) / 4  # test rows are read once


def test_every_lane_every_merge_and_the_scoring_are_charged(done):
    prepared, records = done
    costs = {r.metric: r.value for r in records if r.arm == "race" and "seconds" in r.metric}
    facts = facts_of(prepared)
    race = json.loads((prepared.store.place(facts["path"]) / "race.json").read_text())
    assert len(race["train_seconds"]) > 2
    others = sum(race["train_seconds"].values()) - facts["train_seconds"]
    assert costs["search_seconds"] >= others > 0
    merges = [
        prepared.store.result(key)["seconds"] for key, job in prepared.plan.jobs.items()
        if job.kind == "init" and not job.name.endswith("least-loss")  # somebody was chosen
    ]  # fmt: skip
    assert costs["merge_seconds"] >= sum(merges) > 0
    assert costs["score_seconds"] > 0
    parts = ("score", "merge", "search", "train")
    assert costs["total_seconds"] == pytest.approx(sum(costs[f"{p}_seconds"] for p in parts))


def test_the_winner_is_a_run_of_the_rates_and_says_why_it_won(done):
    prepared, _ = done
    facts = facts_of(prepared)
    run = Run.open(prepared.store.place(facts["path"]))
    assert run.record["config"]["settings"]["learning_rate"] in (0.02, 0.01)
    assert run.kept.dev_loss == facts["dev_loss"]
    assert facts["won"]["sentence"]
    assert {path.name for path in run.path.iterdir()} <= {
        *("run.json", "curve.jsonl", "test.json", "test-start.json", "race.json"),
    }  # fmt: skip
