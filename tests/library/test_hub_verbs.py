"""Single checkpoints and sources of the Hub in the verbs that train, check and convert."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import mashup
from helpers import prompt_rows, refused, write_adapter, write_full, write_jsonl
from hubserver import Server, serving
from mashup import TrainSettings, UsageError
from mashup._convert import convert
from mashup._race.race import named_starts
from mashup.library.sources import folder_of

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "cache") as server:
        server.add("org/a", write_adapter(tmp_path / "a"))
        server.add("org/b", write_adapter(tmp_path / "b", base="owner/else", seed=1))
        yield server


def test_a_source_is_checked_and_what_is_of_another_base_is_not_fetched(hub, tmp_path):
    base = write_full(tmp_path / "owner/tiny")
    one, other = mashup.check(["hub:org"], base=base)
    assert (one.checkpoint.name, one.is_foreign, one.dtypes) == ("org/a", False, ("F32",))
    assert (one.checkpoint.path / WEIGHTS).exists()
    assert (other.checkpoint.name, other.is_foreign) == ("org/b", True)
    assert not (other.checkpoint.path / WEIGHTS).exists()


def test_one_that_is_named_itself_is_always_compared(hub, tmp_path):
    base = write_full(tmp_path / "owner/tiny")
    commit = hub.repos["org/b"].commit
    (report,) = mashup.check([f"hub:org/b@{commit}"], base=base)
    assert report.problems[0].what == "adapter of another base"
    (again,) = mashup.check(["hub:org/b"])
    assert (again.problems, again.is_foreign) == ((), False)


def test_what_cannot_be_fetched_is_a_problem_of_its_report(hub, tmp_path):
    hub.add("org/c", write_adapter(tmp_path / "c"), gated=True)
    reports = {one.checkpoint.name: one for one in mashup.check(["hub:org"])}
    assert not reports["org/a"].problems
    assert [one.what for one in reports["org/c"].problems] == ["gated repository"]


def test_a_folder_after_a_commit_is_a_part_of_a_source(hub, tmp_path):
    for name in ("runs/x", "runs/y", "z"):
        write_adapter(tmp_path / "many" / name, seed=ord(name[-1]))
    at = f"hub:org/many@{hub.add('org/many', tmp_path / 'many').commit}"
    assert len(mashup.scan(at).checkpoints) == 3
    assert len(mashup.scan(f"{at}/runs").checkpoints) == 2
    assert len(mashup.check([f"{at}/runs/x"])) == 1
    with refused("no checkpoint in the source"):
        mashup.scan(f"{at}/run")


def test_starts_are_named_by_repository_and_not_by_commit(hub, tmp_path):
    first = hub.repos["org/a"].commit
    starts = named_starts([f"hub:org/a@{first}", "hub:org/b", tmp_path / "c"])
    assert list(starts) == ["a", "b", "c"]
    assert (starts["a"] / WEIGHTS).exists()
    hub.add("other/a", tmp_path / "a")
    assert list(named_starts(["hub:org/a", "hub:other/a"])) == ["org-a", "other-a"]
    with pytest.raises(UsageError, match="a source of several"):
        named_starts(["hub:org"])


def test_a_run_from_the_hub_says_so_in_manifest_and_card(hub, tmp_path, tiny_base):
    modules = {f"model.layers.{n}.self_attn.q_proj": (32, 32) for n in (0, 1)}
    hub.add("org/start", write_adapter(tmp_path / "s", base=str(tiny_base), modules=modules))
    source = f"hub:org/start@{hub.repos['org/start'].commit}"
    rows = write_jsonl(tmp_path / "rows.jsonl", prompt_rows(60))
    settings = TrainSettings(max_steps=1, batch_size=4, lora_r=4)
    run = mashup.train(
        str(tiny_base), str(rows), output=tmp_path / "run", init="hub:org/start", settings=settings
    )
    manifest = json.loads((run.path / "mashup.json").read_text())
    assert manifest["init"] == str(folder_of(source))
    assert manifest["init_source"] == source
    card = (run.path / "README.md").read_text()
    assert f"from `{source}`" in card
    assert f"--init {source}" in card
    hub.requests.clear()
    again = mashup.train(
        str(tiny_base), str(rows), output=tmp_path / "run", init=source, settings=settings
    )
    assert again.record["digest"] == run.record["digest"]


def test_nothing_is_converted_in_the_cache(hub):
    with pytest.raises(UsageError, match="nowhere to write"):
        convert("hub:org/a")


def test_twins_of_another_owner_are_found_by_their_repository(hub, tmp_path):
    from mashup.experiment.inputs import named_checkpoints, twins_of
    from mashup.experiment.settings import Experiment, TaskData
    from mashup.experiment.worker import Worker

    hub.add("twins/a", write_adapter(tmp_path / "t", seed=5))
    tasks = {name: TaskData(dataset=f"{name}.jsonl") for name in "st"}
    experiment = Experiment(
        name="e", base="owner/tiny", tasks=tasks, library="hub:org", twins="hub:twins",
        learning_rates=(1e-3,),
    )  # fmt: skip
    (twin,) = named_checkpoints(twins_of(experiment)).values()
    assert (twin.path / WEIGHTS).exists()
    worker = Worker.__new__(Worker)
    worker.experiment = experiment
    assert worker.twin_of("org/a") == twin
    assert worker.twin_of("org/z") is None
