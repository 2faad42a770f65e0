"""Whole experiments on a real tiny model: every arm, resuming, sharing, what changes redo."""

import importlib
import json
import re
import shutil

import pytest
import torch

from experiments import values, write_experiment, write_tasks
from helpers import refused
from mashup.experiment.run import made_now, open_experiment, prepare, run_jobs
from mashup.experiment.worker import Worker
from mashup.results import read_records
from mashup.settings import ARMS

work = importlib.import_module("mashup.experiment.work")

TRAINED_PER_RANK = 2 * (32 + 32)  # q_proj of two layers, 32 wide
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
    run_jobs(prepared)
    return prepared


def counted(monkeypatch):
    """Names of jobs that are really done."""
    names = []
    for kind, real in dict(work.WORK).items():

        def doing(worker, job, real=real):
            names.append(job.name)
            return real(worker, job)

        monkeypatch.setitem(work.WORK, kind, doing)
    return names


def test_every_arm_of_every_target_has_its_results(done):
    records = read_records(done.output / "records.jsonl")
    arms = {record.arm for record in records if record.seed >= 0}
    draws = {"random-1", "random-2", "blind-1", "blind-2", "single-two", "single-three"}
    assert arms == (set(ARMS) - {"random", "blind", "each-single"}) | draws
    assert {record.task for record in records} == {"one"}
    for arm in arms - {"merged-untrained"}:
        assert {r.metric for r in records if r.arm == arm} >= {"test_accuracy", "total_seconds"}
    seeds = {(r.arm, r.seed) for r in records if r.metric == "test_loss"}
    assert {("mashup", 1), ("mashup", 2), ("best-single", 1)} <= seeds
    assert ("best-single", 2) not in seeds
    assert {r.budget for r in records if r.arm == "mashup"} == {0.5, 1.0}


def test_when_and_on_what_it_was_made_is_noted_without_paths(done):
    made = json.loads((done.output / "experiment.json").read_text())["made"]
    assert made["date"]
    assert made["versions"]["torch"]
    assert "CPU cores" in made["hardware"]
    assert "command" not in made  # it was not made by a command
    assert open_experiment(done.output)[0] == done.experiment


@pytest.mark.parametrize("program", ["/opt/bin/mashup", ".venv/bin/mashup", "mashup"])
def test_the_command_is_noted_without_paths_of_this_machine(monkeypatch, program):
    monkeypatch.setattr("sys.argv", [program, "loo", "/home/me/a.yaml", "-o", "out"])
    assert made_now(torch.device("cpu"))["command"] == "mashup loo a.yaml -o out"


def test_the_commonest_answer_of_every_target_is_on_record(done):
    records = read_records(done.output / "records.jsonl")
    known = {r.task: r.value for r in records if r.arm == "commonest-answer"}
    assert known == done.commonest
    assert set(known) == {"one"}


def test_draws_are_compared_as_one_and_the_untrained_merge_as_it_is(done):
    gains = {
        r.arm: r for r in read_records(done.output / "records.jsonl")
        if r.metric == "test_loss_gain"
    }  # fmt: skip
    assert set(gains) >= {"random", "each-single", "merged-untrained", "mashup"}
    draws = [gains["random-1"].value, gains["random-2"].value]
    assert gains["random"].value == pytest.approx(sum(draws) / 2)
    ends = {
        (r.arm, r.seed): r.value for r in read_records(done.output / "records.jsonl")
        if r.metric == "test_loss" and r.budget == 1.0
    }  # fmt: skip
    untrained = ends["merged-untrained", 1] - ends["scratch", 1]
    assert gains["merged-untrained"].value == pytest.approx(untrained, abs=1e-6)


def test_every_rate_and_every_donor_is_on_record(done):
    records = read_records(done.output / "records.jsonl")
    rates = {(r.arm, r.seed): set() for r in records if r.metric == "end_dev_loss"}
    for r in records:
        if r.metric == "end_dev_loss":
            rates[r.arm, r.seed].add(r.learning_rate)
    assert rates["scratch", 1] == rates["mashup", 2] == {0.02, 0.01}
    best = min(
        r.value for r in records
        if (r.metric, r.arm, r.seed, r.budget) == ("end_dev_loss", "mashup", 1, 1.0)
    )  # fmt: skip
    curve = [
        r for r in records
        if (r.metric, r.arm, r.seed, r.budget) == ("dev_loss", "mashup", 1, 1.0)
    ]  # fmt: skip
    assert curve[-1].value == best
    donors = {r.donor for r in records if r.metric == "relevance_loss"}
    assert donors == {"base", "two", "three"}
    (score,) = (key for key, job in done.plan.jobs.items() if job.kind == "score")
    chosen = {r.donor for r in records if r.metric == "chosen" and r.value}
    names = {one["digest"]: one["name"] for one in done.store.result(score)["ranking"]}
    assert chosen == {names[digest] for digest in done.store.result(score)["chosen"]} != set()


def test_the_report_is_written_and_says_what_the_records_say(done):
    report = done.output / "report"
    assert (report / "index.html").exists()
    text = (report / "report.md").read_text()
    for arm in ("each-single", "format-only", "random-init", "scratch-longer"):
        assert arm in text
    assert "Gains after training from each source" in text


def test_a_folded_merge_is_a_base_for_a_fresh_adapter(tiny_base, data, done, tmp_path):
    more = {"merge": {"fold": True}, "arms": ["mashup"]}
    experiment = write_experiment(tmp_path / "fold.yaml", tiny_base, data, **EVERYTHING | more)
    prepared = prepare(experiment, tmp_path / "out", jobs=done.store.root)
    records = run_jobs(prepared)
    (key,) = (k for k, job in prepared.plan.jobs.items() if job.kind == "init")
    facts = prepared.store.result(key)
    assert (prepared.store.root / facts["path"] / "config.json").exists()

    def start(records, arm):
        return next(
            r.value for r in records
            if (r.arm, r.metric, r.step, r.seed, r.budget) == (arm, "dev_loss", 0, 1, 1.0)
        )  # fmt: skip

    plain = read_records(done.output / "records.jsonl")
    assert start(records, "mashup") == pytest.approx(start(plain, "mashup"), abs=1e-4)
    assert start(records, "mashup") != pytest.approx(start(plain, "scratch"), abs=1e-3)


def test_a_target_is_published_before_the_next_begins(tiny_base, data, tmp_path):
    experiment = write_experiment(
        tmp_path / "two.yaml", tiny_base, data, targets=["one", "two"], seeds=[1],
        learning_rates=[0.02], choose={"samples": 8, "criterion": "loss"},
    )  # fmt: skip
    seen = []

    def watch(status):
        path = tmp_path / "out/records.jsonl"
        tasks = {r.task for r in read_records(path)} if path.exists() else set()
        seen.append(tasks)

    run_jobs(prepare(experiment, tmp_path / "out"), watch=watch)
    assert {"one"} in seen


def test_scratch_longer_pays_for_the_rate_that_scratch_has_found(done):
    records = read_records(done.output / "records.jsonl")
    paid = {
        r.arm: r.value for r in records
        if r.metric == "search_seconds" and r.seed == 1 and r.budget == 1.0
    }  # fmt: skip
    assert paid["scratch-longer"] == paid["scratch"] > 0


def test_of_a_run_that_nobody_starts_from_only_what_was_measured_stays(done):
    for job in done.plan.jobs.values():
        if job.kind == "train":
            facts = done.store.result(job.key)
            names = {path.name for path in (done.store.root / facts["path"]).iterdir()}
            names -= {"race.json"}
            measured = {"run.json", "curve.jsonl", "test.json", "test-start.json"}
            assert names == measured or (job.keeps_weights and measured < names)


def test_scratch_trains_the_rank_of_the_merge_and_donors_their_own(done):
    ranks = set()
    for key, job in done.plan.jobs.items():
        if job.kind == "train" and not job.needs:
            path = done.store.root / done.store.result(key)["path"] / "run.json"
            made = json.loads(path.read_text())
            ranks.add((made["trainable_parameters"] // TRAINED_PER_RANK, job.keeps_weights))
    assert ranks == {(8, True), (16, False)}


def test_a_second_call_does_nothing_and_says_the_same(done, experiment, monkeypatch):
    names = counted(monkeypatch)
    again = prepare(experiment, done.output)
    before = read_records(done.output / "records.jsonl")
    assert run_jobs(again) == before
    assert names == []
    assert again.status.done == again.status.total
    assert again.status.seconds == 0


def test_a_changed_setting_redoes_what_depends_on_it(done, tiny_base, data, tmp_path, monkeypatch):
    path, merge = tmp_path / "b.yaml", {"scale": 0.5}
    other = write_experiment(path, tiny_base, data, merge=merge, **EVERYTHING)
    names = counted(monkeypatch)
    run_jobs(prepare(other, tmp_path / "out", jobs=done.store.root))
    assert not [name for name in names if name.startswith("score")]
    trained = {name.split()[2] for name in names if name.startswith("train")}
    assert "scratch" not in trained
    assert {"mashup", "best-single", "average-all"} <= trained


def test_jobs_of_another_precision_are_not_used_and_a_note_says_so(done, tiny_base, data, tmp_path):
    path = tmp_path / "b.yaml"
    other = write_experiment(path, tiny_base, data, dtype="bfloat16", **EVERYTHING)
    prepared = prepare(other, tmp_path / "out", jobs=done.store.root)
    assert prepared.status.done == 0
    found = re.search(r"has (\d+) finished jobs", prepared.notes[-1])  # other tests share them
    assert found
    assert int(found[1]) >= done.status.done
    assert "precision (here bfloat16)" in prepared.notes[-1]
    assert not any("finished jobs" in note for note in done.notes)


def test_a_killed_experiment_goes_on_where_it_was(experiment, done, tmp_path, monkeypatch):
    prepared = prepare(experiment, tmp_path / "out")
    names = counted(monkeypatch)
    seen = []

    def stop(status):
        seen.append(status.done)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(prepared, watch=stop)
    assert len(names) == 5
    assert seen == [1, 2, 3, 4, 5]
    again = prepare(experiment, tmp_path / "out")
    assert again.status.done == 5
    first = next(job for job in again.plan.jobs.values() if job.kind == "train")
    assert again.store.is_done(first)


def test_jobs_of_two_machines_lie_together_and_nothing_is_done_again(
    tiny_base, data, tmp_path, monkeypatch
):
    def seeded(*seeds):
        path = tmp_path / "seeded.yaml"
        return write_experiment(path, tiny_base, data, seeds=seeds, arms=["scratch", "mashup"])

    for seed in (1, 2):
        run_jobs(prepare(seeded(seed), tmp_path / f"machine-{seed}"))
    for seed in (1, 2):
        shutil.copytree(
            tmp_path / f"machine-{seed}" / "jobs", tmp_path / "both" / "jobs", dirs_exist_ok=True
        )
    names = counted(monkeypatch)
    run_jobs(prepare(seeded(1, 2), tmp_path / "both"))
    assert names == []
    together = values(tmp_path / "both")
    for seed in (1, 2):
        apart = values(tmp_path / f"machine-{seed}")
        of_runs = {key for key in apart if key[2] == seed}
        assert of_runs
        assert {key: together[key] for key in of_runs} == {key: apart[key] for key in of_runs}


def test_seeds_give_other_numbers_and_the_same_seed_the_same(done):
    records = read_records(done.output / "records.jsonl")
    ends = {
        (r.seed): r.value for r in records
        if (r.task, r.arm, r.metric, r.step, r.budget) == ("one", "scratch", "test_loss", 2, 1.0)
    }  # fmt: skip
    assert set(ends) == {1, 2}
    assert ends[1] != ends[2]


def test_two_processes_do_not_run_one_experiment(experiment, tmp_path):
    from mashup.outputs import only_one

    prepared = prepare(experiment, tmp_path / "out")
    for folder in (prepared.output, prepared.store.root):
        with only_one(folder), refused("output is being written", where=str(folder)):
            run_jobs(prepared)


def test_a_rate_that_one_seed_has_found_is_taken_by_the_others_and_charged(
    tiny_base, data, tmp_path
):
    experiment = write_experiment(
        tmp_path / "search.yaml", tiny_base, data, arms=["scratch", "mashup"], search_seeds=1
    )
    prepared = prepare(experiment, tmp_path / "out")
    records = run_jobs(prepared)

    def values(metric):
        return {
            (r.arm, r.seed): r.value for r in records if r.metric == metric and r.budget == 1.0
        }  # fmt: skip

    rates, search = values("learning_rate"), values("search_seconds")
    for arm in ("scratch", "mashup"):
        assert rates[arm, 2] == rates[arm, 1]
        assert search[arm, 1] > 0
        assert search[arm, 2] == pytest.approx(search[arm, 1])
    trained = [job.name for job in prepared.plan.jobs.values() if job.kind == "train"]
    assert sum("scratch" in name for name in trained) == 3


def test_a_run_of_another_arm_with_the_same_start_is_not_made_again(tiny_base, data, tmp_path):
    choose = {"samples": 16, "criterion": "loss", "k": 1}
    more = {"arms": ["mashup", "best-single"], "control_seeds": [1, 2], "choose": choose}
    for search in (None, 1):
        folder = tmp_path / f"{search}"
        folder.mkdir()
        experiment = write_experiment(
            folder / "k1.yaml", tiny_base, data, search_seeds=search, **more
        )
        prepared = prepare(experiment, folder / "out")
        run_jobs(prepared)
        runs = {(c.arm, c.seed): c.runs for c in prepared.plan.cells}
        for seed in (1, 2):
            for mine, theirs in zip(runs["best-single", seed], runs["mashup", seed], strict=True):
                found = prepared.store.result(mine)
                assert found["same_as"] == theirs
                assert found["path"] == prepared.store.result(theirs)["path"]
        values = {(r.arm, r.seed): r.value for r in read_records(folder / "out/records.jsonl")
                  if r.metric == "test_loss" and r.seed > 0}  # fmt: skip
        assert values["best-single", 2] == values["mashup", 2]


def test_a_run_does_not_wait_for_the_same_run_of_another_arm(tiny_base, data, tmp_path):
    """On Ray, best-single's run could come before mashup's merge, and ended in an error."""
    choose = {"samples": 16, "criterion": "loss", "k": 1}
    more = {"arms": ["mashup", "best-single"], "choose": choose, "seeds": [1]}
    prepared = prepare(
        write_experiment(tmp_path / "k1.yaml", tiny_base, data, **more), tmp_path / "out"
    )
    run_jobs(prepared)
    cells = {cell.arm: cell for cell in prepared.plan.cells}
    mine = cells["best-single"].runs[0]
    for key in (cells["mashup"].init, *cells["mashup"].runs, mine):
        shutil.rmtree(prepared.store.folder(key))
    work.do(Worker(prepared.experiment, prepared.store), prepared.plan.jobs[mine])
    assert "same_as" not in prepared.store.result(mine)
