"""Experiments that start from a library: what is left out, twins, strangers, sizes."""

import json

import pytest

from experiments import NAMES, library_of, said, written
from helpers import prompt_rows, refused
from lora import save_lora
from mashup import UsageError
from mashup.experiment.run import prepare, run_jobs
from mashup.task import Example, taught_prompts


def test_a_source_of_the_targets_own_task_is_left_out_by_name_and_by_prompts(tiny_base, tmp_path):
    library = library_of(tmp_path / "library", base=str(tiny_base))
    experiment = written(tmp_path, tiny_base, targets=["one", "two"], train_rows=None)
    rows = [Example.of(row["prompt"], row["completion"]) for row in prompt_rows(90)]
    task = prepare(experiment, tmp_path / "out").plan  # which training rows does it have?
    assert task.left_out == {"one": {}, "two": {}}
    from mashup.experiment.inputs import load

    trained = load(experiment, "one").train
    said(library / "family/near", task="one")
    said(library / "family/far", prompts=taught_prompts(trained[: len(trained) // 2]))
    said(library / "other/odd", prompts=taught_prompts(trained[:2]))
    assert len(rows) > len(trained)
    prepared = prepare(experiment, tmp_path / "out")
    assert prepared.plan.left_out["two"] == {}
    left_out = prepared.plan.left_out["one"]
    assert {name: why.held_out for name, why in left_out.items()} == {
        "family/near": 0.0,
        "family/far": 0.0,
    }
    assert left_out["family/near"].own_task == 1.0
    assert left_out["family/far"].own_task == pytest.approx(0.5, abs=0.02)
    assert "one: family/near is left out, trained on the task itself" in prepared.notes
    used = {
        job.about["task"]: len(job.decides["library"])
        for job in prepared.plan.jobs.values() if job.kind == "score"
    }  # fmt: skip
    assert used == {"one": 2, "two": 4}


@pytest.mark.parametrize(
    ("trained_on", "is_own"),
    [("group/one", True), ("one@16", True), ("someone", False), ("one/more", False)],
)
def test_a_task_is_the_targets_own_in_any_folder(tiny_base, tmp_path, trained_on, is_own):
    """A source of ``textcls/trec`` was used for the target ``trec``: whole names were compared."""
    library = library_of(tmp_path / "library", base=str(tiny_base))
    said(library / "family/near", task=trained_on)
    prepared = prepare(written(tmp_path, tiny_base, targets=["one"]), tmp_path / "out")
    assert ("family/near" in prepared.plan.left_out["one"]) == is_own


def test_a_target_whose_only_sources_are_its_own_is_refused(tiny_base, tmp_path):
    library = library_of(tmp_path / "library", ("a",), base=str(tiny_base))
    said(library / "a", task="one")
    with refused("source of the target's own task", where="a, for one"):
        prepare(written(tmp_path, tiny_base), tmp_path / "out")


@pytest.fixture(scope="module")
def done(tiny_base, tmp_path_factory):
    """An experiment on a library of LoRAs, with all arms that look at it in another way."""
    folder = tmp_path_factory.mktemp("library")
    for name in ("library", "twins"):
        for size, source in enumerate(NAMES):
            save_lora(str(tiny_base), folder / name / source, seed=size, size=1.0)
    said(folder / "library/family/near", task="one")
    tasks = {
        "one": {"dataset": str(folder / "one.jsonl"), "relatives": ["family/*"]},
        "two": {"dataset": str(folder / "two.jsonl")},
    }
    arms = ["mashup", "random", "blind", "each-single", "best-single"]
    more = {"choose": {"samples": 40}, "draws": 2}  # the sources are noise: none knows the task
    experiment = written(folder, tiny_base, tasks=tasks, arms=arms, **more)
    prepared = prepare(experiment, folder / "out")
    return prepared, run_jobs(prepared)


def starts(prepared):
    return {
        cell.arm: prepared.store.result(cell.init) for cell in prepared.plan.cells if cell.init
    }  # fmt: skip


def test_arms_start_from_what_they_may(done):
    prepared, records = done
    found = {arm: set(init["parents"]) for arm, init in starts(prepared).items()}
    assert found["blind-1"] == found["blind-2"] == {"other/strange", "other/odd"}
    assert "family/near" not in set().union(*found.values())
    singles = {arm for arm in found if arm.startswith("single-")}
    assert singles == {f"single-{name}" for name in NAMES[1:]}
    bits = {
        r.donor: r.value for r in records if r.metric == "relevance_knowledge" and r.task == "one"
    }
    assert set(bits) == {"base", *NAMES[1:]}
    (left_out,) = (r for r in records if r.metric.startswith("left_out"))
    assert (left_out.metric, left_out.donor, left_out.value) == (
        "left_out_own_task", "family/near", 1.0,
    )  # fmt: skip
    assert {r.arm for r in records if r.metric == "test_accuracy_gain"} >= {"blind", "random"}


def test_an_arm_without_a_start_is_scratch_and_is_not_trained_again(done):
    prepared, _ = done
    mashup = starts(prepared)["mashup"]
    runs = {
        cell.arm: prepared.store.result(cell.runs[0]) for cell in prepared.plan.cells
    }  # fmt: skip
    assert mashup["path"] == ""
    assert runs["mashup"]["path"] == runs["scratch"]["path"]
    assert mashup["note"] == "nothing beat the base: same as scratch"


def test_every_arm_trains_the_size_of_the_merge(done):
    prepared, _ = done
    size = starts(prepared)["mashup"].get("rank", prepared.experiment.train.lora_r)
    for cell in prepared.plan.cells:
        if cell.arm in ("scratch", "best-single"):
            path = prepared.store.place(prepared.store.result(cell.runs[0])["path"])
            record = json.loads((path / "run.json").read_text())
            assert record["config"]["settings"]["lora_r"] == size


def test_twins_stand_for_the_chosen(tiny_base, tmp_path):
    for name in ("library", "twins"):
        save_lora(str(tiny_base), tmp_path / name / "a", size=0.001)
    save_lora(str(tiny_base), tmp_path / "library/b", size=0.001)
    more = {"twins": str(tmp_path / "twins"), "arms": ["format-only"]}
    prepared = prepare(written(tmp_path, tiny_base, **more), tmp_path / "out")
    (job,) = (j for j in prepared.plan.jobs.values() if j.name == "init one format-only")
    assert len(job.decides["twins"]) == 1
    from mashup.experiment import work
    from mashup.experiment.worker import Worker

    worker = Worker(prepared.experiment, prepared.store)
    score = next(j for j in prepared.plan.jobs.values() if j.kind == "score")
    chosen = {worker.name_of(one): one for one in worker.scores(score).ranking}
    twin = work._shuffled(worker, job, chosen["a"])
    assert twin.checkpoint.path == tmp_path / "twins/a"
    with refused("no twin", where="b"):
        work._shuffled(worker, job, chosen["b"])


def test_all_sources_are_relatives(tiny_base, tmp_path):
    save_lora(str(tiny_base), tmp_path / "library/a", size=0.001)
    tasks = {"one": {"dataset": str(tmp_path / "one.jsonl"), "relatives": ["*"]}}
    experiment = written(tmp_path, tiny_base, tasks=tasks, arms=["blind"], draws=1)
    with refused("no source", where="arm blind, for one"):
        run_jobs(prepare(experiment, tmp_path / "out"))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"arms": ["format-only"]}, "format-only needs twins"),
        ({"library": None, "twins": "twins"}, "twins are those of a library"),
    ],
)
def test_twins_and_a_library_belong_together(tiny_base, tmp_path, more, told):
    with pytest.raises(UsageError, match=told):
        written(tmp_path, tiny_base, **more)
