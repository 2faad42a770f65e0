"""Donors that were trained on a target's held-out rows: left out, and said to be."""

import pytest

from experiments import TASKS, write_experiment, write_tasks
from helpers import Q_PROJ, prompt_rows, refused, write_adapter, write_jsonl
from mashup.experiment.run import prepare, run_jobs
from mashup.results import read_records
from mashup.task import Example, taught_prompts

FEW = {"seeds": [1], "learning_rates": [0.01], "arms": ["scratch", "mashup"]}


def thieves(folder, *names):
    """Tasks, of which the named ones train on the held-out rows of ``one`` too."""
    write_tasks(folder)
    for name in names:
        (folder / f"{name}.jsonl").unlink()
        write_jsonl(folder / name / "train.jsonl", prompt_rows(90))
        write_jsonl(folder / name / "test.jsonl", prompt_rows(20, f" of {name}"))
    return folder


def written(path, base, data, **more):
    """The experiment on the data that is there."""
    places = {name: data / name for name in TASKS}
    tasks = {n: str(p if p.is_dir() else p.with_suffix(".jsonl")) for n, p in places.items()}
    return write_experiment(path, base, data, **FEW | {"tasks": tasks, "train_rows": None} | more)


@pytest.fixture
def experiment(tiny_base, tmp_path):
    return written(tmp_path / "x.yaml", tiny_base, thieves(tmp_path, "two"))


def test_a_donor_that_has_seen_the_test_rows_is_left_out_and_named(experiment, tmp_path):
    prepared = prepare(experiment, tmp_path / "out")
    (note,) = prepared.notes
    assert note.startswith("one: two is left out, trained on ")
    assert not [job for job in prepared.plan.jobs.values() if job.name.startswith("train two")]
    run_jobs(prepared)
    records = read_records(tmp_path / "out/records.jsonl")
    (left_out,) = (r for r in records if r.metric == "left_out")
    assert (left_out.task, left_out.donor) == ("one", "two")
    assert 0 < left_out.value <= 1
    assert {r.donor for r in records if r.metric == "chosen"} == {"three"}
    report = (tmp_path / "out/report/report.md").read_text()
    assert "Skipped source checkpoints" in report
    assert f"{100 * left_out.value:.1f} %" in report


def test_without_a_leak_nothing_is_left_out_and_keys_are_as_they_were(tiny_base, tmp_path):
    clean = write_experiment(tmp_path / "x.yaml", tiny_base, write_tasks(tmp_path), **FEW)
    prepared = prepare(clean, tmp_path / "out")
    assert prepared.notes == ()
    (score,) = (job for job in prepared.plan.jobs.values() if job.kind == "score")
    assert set(score.needs) == set(TASKS) - {"one"}


def test_a_target_all_of_whose_donors_leak_is_refused(tiny_base, tmp_path):
    data = thieves(tmp_path, "two", "three")
    experiment = written(tmp_path / "x.yaml", tiny_base, data)
    with refused("trained on the held-out rows", where="three, for one"):
        prepare(experiment, tmp_path / "out")
    alone = experiment.model_copy(update={"arms": ("scratch",)})
    assert prepare(alone, tmp_path / "out").plan.jobs


def test_targets_that_share_test_rows_are_said_to(tiny_base, tmp_path):
    rows = prompt_rows(90)
    write_tasks(tmp_path)
    for name, ending in (("one", " a"), ("two", " b")):
        write_jsonl(tmp_path / f"{name}-train.jsonl", prompt_rows(90, ending))
    write_jsonl(tmp_path / "test.jsonl", rows[:20])
    tasks = {
        name: {
            "dataset": f"{tmp_path}/{name}-train.jsonl",
            "test_dataset": f"{tmp_path}/test.jsonl",
        }
        for name in ("one", "two")
    }
    more = {"tasks": tasks, "targets": ["one", "two"], "test_rows": 20}
    experiment = write_experiment(tmp_path / "x.yaml", tiny_base, tmp_path, **FEW | more)
    assert prepare(experiment, tmp_path / "out").notes == (
        "one and two share 20 test prompts: their results are not independent",
    )


def test_a_leaking_checkpoint_of_a_library_is_left_out_and_named(tiny_base, tmp_path):
    write_tasks(tmp_path)
    for name, rows in (("clean", prompt_rows(9, " else")), ("thief", prompt_rows(90))):
        folder = write_adapter(tmp_path / "library" / name, base=str(tiny_base), seed=len(rows))
        keys = taught_prompts(Example.of(row["prompt"], row["completion"]) for row in rows)
        (folder / "train_prompts.txt").write_text("\n".join(keys))
    more = {"library": str(tmp_path / "library"), "targets": ["one", "two"]}
    prepared = prepare(
        write_experiment(tmp_path / "x.yaml", tiny_base, tmp_path, **FEW | more), tmp_path / "out"
    )
    (note,) = prepared.notes
    assert note == "one: thief is left out, trained on 100% of the dev and test prompts"
    used = {
        job.about["task"]: len(job.decides["library"])
        for job in prepared.plan.jobs.values() if job.kind == "score"
    }  # fmt: skip
    assert used == {"one": 1, "two": 2}


def sentences(start, count):
    """Rows of 20 words that no other row has in this order."""
    return [
        {
            "prompt": " ".join(f"w{(n * 7 + step * (n + 3)) % 400}" for step in range(20)),
            "completion": "yes" if n % 2 else "no",
        }
        for n in range(start, start + count)
    ]


def test_datasets_that_sources_name_are_searched_and_the_unknown_is_said(
    tiny_base, tmp_path, monkeypatch
):
    cache = tmp_path / "cache"
    (cache / "empty").mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(cache / "empty"))
    for number, name in enumerate(TASKS):
        write_jsonl(tmp_path / f"{name}.jsonl", sentences(100 * number, 60))
    lists = {"thief": sentences(0, 60), "clean": sentences(300, 60)}
    kind = {"base": str(tiny_base), "modules": {Q_PROJ: (32, 32)}}
    for seed, name in enumerate(("thief", "clean", "unknown")):
        folder = write_adapter(tmp_path / "library" / name, seed=seed, **kind)
        if name in lists:
            (folder / "README.md").write_text(f"---\ndatasets:\n- a/{name}\n---\n")
            write_jsonl(cache / f"datasets--a--{name}/snapshots/c/train.jsonl", lists[name])
    more = {"library": str(tmp_path / "library"), "targets": ["one", "two"], "train_rows": 30}
    experiment = write_experiment(tmp_path / "x.yaml", tiny_base, tmp_path, **FEW | more)
    prepared = prepare(experiment, tmp_path / "out")
    left_out, unknown = prepared.notes
    assert left_out == "one: thief is left out, 100% of the dev and test rows are in a/thief"
    assert unknown.startswith("it is not known whether 1 of 3 checkpoints trained on rows of")
    used = {
        job.about["task"]: (len(job.decides["library"]), job.about["left_out"])
        for job in prepared.plan.jobs.values() if job.kind == "score"
    }  # fmt: skip
    assert used == {"one": (2, ["thief"]), "two": (3, [])}
    run_jobs(prepared)
    report = (tmp_path / "out/report/report.md").read_text()
    assert "Skipped source checkpoints" in report
    assert "it is not known whether 1 of 3 checkpoints" in report
