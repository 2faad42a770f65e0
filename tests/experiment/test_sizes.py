"""Targets at several numbers of labels (``NAME@SIZE``), and the order in which jobs are done."""

from dataclasses import replace

import pytest

from experiments import FEW, library_of, said, write_experiment, write_tasks, written
from helpers import refused
from mashup import UsageError
from mashup.experiment.arms import make_plan
from mashup.experiment.jobs import Inputs
from mashup.experiment.run import open_experiment, prepare, publish, run_jobs
from mashup.experiment.settings import Experiment
from mashup.results.records import data_of, read_records

TASKS = {name: {"dataset": f"{name}.jsonl", "dev_rows": 9} for name in ("one", "two", "three")}
SIZED = TASKS | {"one@16": {"train_rows": 16}}
INPUTS = Inputs("base", {name: name for name in SIZED}, dict.fromkeys(SIZED, 8))
OUTSIDE = replace(INPUTS, library={"a": "digest a", "b": "digest b"})


def experiment_of(tasks=SIZED, **more):
    values = {"name": "x", "base": "b", "tasks": tasks, "learning_rates": [1e-3], "seeds": [1, 2]}
    return Experiment(**values | more)


def names_of(plan, kind="train"):
    return [job.name for job in plan.jobs.values() if job.kind == kind]


def test_a_size_has_the_settings_of_its_task_but_for_its_own():
    sized = experiment_of().tasks["one@16"]
    assert (sized.dataset, sized.dev_rows, sized.train_rows) == ("one.jsonl", 9, 16)
    again = Experiment.model_validate_json(experiment_of().model_dump_json())
    assert again == experiment_of()
    assert (data_of("one@16"), data_of("one"), data_of("@x")) == ("one", "one", "@x")


@pytest.mark.parametrize(
    ("tasks", "more", "told"),
    [
        (TASKS | {"one@16": "other.jsonl"}, {}, "one@16: dataset must be as in one"),
        (TASKS | {"one@16": {"test_rows": 9}}, {}, "one@16: test_rows must be as in one"),
        (TASKS | {"one@16": {"arms": ["blind"]}}, {}, "tasks.one@16.arms blind: not among arms"),
        ({"one": "one.jsonl", "one@16": {"train_rows": 16}}, {}, "no other to start from"),
    ],
)
def test_what_cannot_be_is_told(tmp_path, tasks, more, told):
    with pytest.raises(UsageError, match=told):
        write_experiment(tmp_path / "x.yaml", "b", tmp_path, tasks=tasks, targets=["one"], **more)


def test_another_size_changes_no_job_of_the_others_and_is_no_source():
    plain, sized = (make_plan(experiment_of(tasks), INPUTS) for tasks in (TASKS, SIZED))
    assert set(plain.jobs) < set(sized.jobs)
    (score,) = (job for job in sized.jobs.values() if job.name == "score one@16")
    assert set(score.needs) == {"two", "three"}
    donors = {job.name for job in sized.jobs.values() if job.keeps_weights and job.kind == "train"}
    assert donors == {f"train {name} seed 42 rate 0.001" for name in TASKS}


def test_a_source_of_the_task_is_left_out_at_every_size(tiny_base, tmp_path):
    library = library_of(tmp_path / "library", base=str(tiny_base))
    said(library / "family/near", task="one")
    said(library / "family/far", task="one@20")
    tasks = {
        "one": {"dataset": str(tmp_path / "one.jsonl"), "relatives": ["family/*"]},
        "one@16": {"train_rows": 16},
    }
    more = {"targets": ["one", "one@16"], "arms": ["blind"], "draws": 1}
    prepared = prepare(written(tmp_path, tiny_base, tasks=tasks, **more), tmp_path / "out")
    left_out = prepared.plan.left_out
    assert set(left_out["one"]) == set(left_out["one@16"]) == {"family/near", "family/far"}
    assert not [note for note in prepared.notes if "share" in note]
    blind = [job for job in prepared.plan.jobs.values() if "blind" in job.name.split()]
    relatives = {tuple(job.decides["relatives"]) for job in blind if job.kind == "init"}
    assert relatives == {("family/*",)}


def test_a_size_may_have_steps_arms_and_budgets_of_its_own():
    own = {"train_rows": 16, "max_steps": 4, "arms": ["scratch", "mashup"], "budgets": [1]}
    arms = ["scratch", "mashup", "best-single"]
    experiment = experiment_of(TASKS | {"one@16": own}, arms=arms, budgets=[0.5, 1])
    inputs = replace(INPUTS, steps=INPUTS.steps | {"one@16": 4})
    plan = make_plan(experiment, inputs)
    cells = {(cell.arm, cell.budget) for cell in plan.cells if cell.target == "one@16"}
    assert cells == {("scratch", 1.0), ("mashup", 1.0)}
    steps = {
        job.about["task"]: job.decides["settings"]["max_steps"]
        for job in plan.jobs.values()
        if "scratch" in job.name.split() and "budget" not in job.name
    }
    assert steps == dict.fromkeys(TASKS) | {"one@16": 4}


def test_main_arms_of_all_targets_come_first_and_then_arm_by_arm():
    arms = ["scratch", "best-single", "mashup", "race", "merged-untrained", "blind"]
    variants = {"k1": {"choose": {"k": 1}}}
    settings = {"arms": arms, "library": "lib", "draws": 2, "variants": variants}
    plan = make_plan(experiment_of(TASKS, **settings), OUTSIDE)
    seen: set[str] = set()
    for key, job in plan.jobs.items():
        assert seen >= set(job.before)
        seen.add(key)
    order = [name.split()[2] for name in names_of(plan) if "probe" not in name]
    stages = [("scratch", "mashup", "merged-untrained"), ("best-single",), ("race",)]
    stages += [("blind-1", "blind-2", "blind"), ("k1",)]
    places = [next(n for n, arms in enumerate(stages) if arm in arms) for arm in order]
    assert places == sorted(places)
    assert set(places) == set(range(len(stages)))


def test_short_runs_of_all_targets_come_before_the_long_ones():
    settings = {"library": "lib", "budgets": [1, 0.25], "arms": ["scratch", "mashup"]}
    plan = make_plan(experiment_of(TASKS, **settings), OUTSIDE)
    trained = [name for name in names_of(plan) if name.startswith("train")]
    short = ["budget 0.25" in name for name in trained if "@" not in name]
    assert any(short)
    assert short == sorted(short, reverse=True)


@pytest.fixture
def stopped(tiny_base, tmp_path):
    """An experiment on two targets that was stopped when the main arms of the first were done."""
    data = write_tasks(tmp_path)
    more = FEW | {"targets": ["one", "two"], "arms": ["scratch", "mashup", "best-single"]}
    experiment = write_experiment(tmp_path / "x.yaml", tiny_base, data, **more)
    prepared = prepare(experiment, tmp_path / "out")

    def stop(status):
        if any(name.startswith("train one mashup") for name in done_of(prepared)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(prepared, watch=stop)
    return prepared


def done_of(prepared):
    return [job.name for job in prepared.plan.jobs.values() if prepared.store.is_done(job)]


def test_what_is_done_of_an_unfinished_experiment_is_reported(stopped):
    records = publish(stopped)
    assert {(r.task, r.arm) for r in records if r.metric == "test_accuracy" and r.seed >= 0} == {
        ("one", "scratch"), ("one", "mashup"),
    }  # fmt: skip
    assert {r.arm for r in records if r.metric == "test_accuracy_gain"} == {"mashup"}
    assert (stopped.output / "report/index.html").exists()
    assert records == read_records(stopped.output / "records.jsonl")


def test_nothing_to_report_is_told(tiny_base, tmp_path):
    experiment = write_experiment(tmp_path / "x.yaml", tiny_base, write_tasks(tmp_path))
    with refused("nothing to report yet", where=str(tmp_path / "out")):
        publish(prepare(experiment, tmp_path / "out"))


def test_some_targets_are_run_by_name_or_pattern(tmp_path):
    write_experiment(tmp_path / "x.yaml", "b", tmp_path, tasks=SIZED, targets=[])
    found, _ = open_experiment(tmp_path / "x.yaml", targets=["t*", "one@16"])
    assert set(found.wanted) == {"two", "three", "one@16"}
    with pytest.raises(UsageError, match="unknown target"):
        open_experiment(tmp_path / "x.yaml", targets=["fuor"])
