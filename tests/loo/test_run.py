"""Whole experiments on a real tiny model: every arm, resuming, sharing, what changes redo."""

import importlib
import json

import pytest

from experiments import write_experiment, write_tasks
from helpers import refused
from mashup.compare import read_records
from mashup.loo import ARMS, prepare, run_experiment

work = importlib.import_module("mashup.loo.work.do")

EVERYTHING = {"arms": list(ARMS), "draws": 2, "budgets": [0.5, 1.0]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tasks(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def experiment(tiny_base, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("yaml") / "tiny.yaml"
    return write_experiment(path, tiny_base, data, **EVERYTHING)


@pytest.fixture(scope="module")
def done(experiment, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "loo"
    prepared = prepare(experiment, output)
    run_experiment(prepared)
    return prepared


def counted(monkeypatch):
    """Names of jobs that are really done."""
    names = []
    for kind, real in dict(work._WORK).items():

        def doing(worker, job, real=real):
            names.append(job.name)
            return real(worker, job)

        monkeypatch.setitem(work._WORK, kind, doing)
    return names


def test_every_arm_of_every_target_has_its_results(done):
    records = read_records(done.output / "records.jsonl")
    arms = {record.arm for record in records}
    random = {"random-1", "random-2"}
    assert arms == (set(ARMS) - {"random"}) | random
    assert {record.task for record in records} == {"one"}
    for arm in arms - {"merged-untrained"}:
        assert {r.metric for r in records if r.arm == arm} >= {"test_accuracy", "total_seconds"}
    seeds = {(r.arm, r.seed) for r in records if r.metric == "test_loss"}
    assert {("mashup", 1), ("mashup", 2), ("best-single", 1)} <= seeds
    assert ("best-single", 2) not in seeds
    assert {r.budget for r in records if r.arm == "mashup"} == {0.5, 1.0}


def test_scratch_trains_the_rank_of_the_merge_and_donors_their_own(done):
    ranks = set()
    for key, job in done.plan.jobs.items():
        if job.kind == "train" and not job.needs:
            path = done.store.root / done.store.result(key)["path"] / "adapter_config.json"
            ranks.add((job.keeps_weights, json.loads(path.read_text())["r"]))
    assert ranks == {(True, 8), (False, 16)}


def test_a_second_call_does_nothing_and_says_the_same(done, experiment, monkeypatch):
    names = counted(monkeypatch)
    again = prepare(experiment, done.output)
    before = read_records(done.output / "records.jsonl")
    assert run_experiment(again) == before
    assert names == []
    assert again.status.done == again.status.total
    assert again.status.seconds == 0


def test_a_changed_setting_redoes_what_depends_on_it(done, tiny_base, data, tmp_path, monkeypatch):
    path, merge = tmp_path / "b.yaml", {"scale": 0.5}
    other = write_experiment(path, tiny_base, data, merge=merge, **EVERYTHING)
    names = counted(monkeypatch)
    run_experiment(prepare(other, tmp_path / "out", jobs=done.store.root))
    assert not [name for name in names if name.startswith("score")]
    trained = {name.split()[2] for name in names if name.startswith("train")}
    assert "scratch" not in trained
    assert {"mashup", "best-single", "average-all"} <= trained


def test_a_killed_experiment_goes_on_where_it_was(experiment, done, tmp_path, monkeypatch):
    prepared = prepare(experiment, tmp_path / "out")
    names = counted(monkeypatch)
    seen = []

    def stop(status):
        seen.append(status.done)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_experiment(prepared, watch=stop)
    assert len(names) == 5
    assert seen == [1, 2, 3, 4, 5]
    again = prepare(experiment, tmp_path / "out")
    assert again.status.done == 5
    first = next(job for job in again.plan.jobs.values() if job.kind == "train")
    assert again.store.is_done(first)


def test_seeds_give_other_numbers_and_the_same_seed_the_same(done):
    records = read_records(done.output / "records.jsonl")
    ends = {
        (r.seed): r.value for r in records
        if (r.task, r.arm, r.metric, r.step, r.budget) == ("one", "scratch", "test_loss", 2, 1.0)
    }  # fmt: skip
    assert set(ends) == {1, 2}
    assert ends[1] != ends[2]


def test_two_processes_do_not_run_one_experiment(experiment, tmp_path):
    from mashup.loo.store import only_one

    prepared = prepare(experiment, tmp_path / "out")
    with only_one(prepared.output), refused("experiment is running", where=str(prepared.output)):
        run_experiment(prepared)
