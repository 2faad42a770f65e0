"""An experiment's YAML: everything wrong is told at once, before anything runs."""

from pathlib import Path

import pytest
import yaml

from experiments import write_experiment, write_tasks
from mashup import UsageError
from mashup.experiment.settings import Experiment, folder_of, read_experiment, task_in


def wrong(path, text):
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
    with pytest.raises(UsageError) as caught:
        read_experiment(path)
    return {(p.what, p.found or p.expected): p for p in caught.value.problems}


GOOD = {
    "name": "x", "base": "b", "tasks": {"a": "a.jsonl", "b": {"dataset": "b.jsonl"}},
    "learning_rates": [1e-3],
}  # fmt: skip


def test_all_faults_are_told_at_once_with_suggestions(tmp_path):
    bad = GOOD | {"sedes": [1], "learning_rates": [0], "arms": ["mash"], "train": {"lora_rank": 8}}
    found = wrong(tmp_path / "x.yaml", bad)
    assert found["unknown setting", "sedes"].fix == "did you mean seeds?"
    assert "lora_r" in found["unknown setting", "train.lora_rank"].fix
    whats = [what for what, _ in found]
    assert whats.count("bad setting") == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"targets": ["c"]}, "not among the tasks"),
        ({"tasks": {"a": "a.jsonl"}}, "no other to start from"),
        ({"seeds": [1], "control_seeds": [2]}, "not among seeds"),
        ({"seeds": [1, 1]}, "only once"),
        ({"train": {"seed": 3}}, "learning_rates and seeds"),
        ({"library": "l", "arms": ["format-only"]}, "give twins"),
        ({"budgets": [0]}, "above 0"),
        ({"merge": {"fold": True}, "arms": ["random-init"]}, "leave merge.fold out"),
        ({"merge": {"scale": "serch"}}, "search"),
        ({"name": "a/b"}, "text that matches"),
    ],
)
def test_what_cannot_be_is_told(tmp_path, change, told):
    found = wrong(tmp_path / "x.yaml", GOOD | change)
    text = " ".join(f"{p.expected} {p.fix}" for p in found.values())
    assert told in text


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../a", "../../../escaped", "a/../b", "/absolute", "a//b", "a/"),
        *("nul\0", "line\n", "\x1b[2J", "long" * 75, "長" * 60, "a" + "/" * 60),
    ],
)
def test_a_name_that_is_no_name_of_a_folder_is_refused(tmp_path, name):
    (problem,) = wrong(tmp_path / "x.yaml", GOOD | {"tasks": {name: "a.jsonl", "b": "b"}}).values()
    assert "control characters" in f"{problem.expected} {problem.fix}"


@pytest.mark.parametrize(
    "name", ["glue/sst2", "a b", "50 %", "%2F", "a/b/c", "長い名前", "-x", "x.y"]
)
def test_a_folder_tells_the_task_that_it_is_called_after(name):
    Experiment(**GOOD | {"tasks": {name: {"dataset": "a"}, "z": {"dataset": "b"}}})
    assert "/" not in folder_of(name)
    assert task_in(folder_of(name)) == name


def test_the_data_may_lie_elsewhere(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.jsonl").touch()
    (tmp_path / "b.jsonl").touch()
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(GOOD))
    found = read_experiment(tmp_path / "x.yaml", tmp_path / "data").tasks
    assert found["a"].dataset == str(tmp_path / "data/a.jsonl")
    assert found["b"].dataset == "b.jsonl"  # it is not there: a Hub id, or told on loading
    with pytest.raises(UsageError, match="no such folder"):
        read_experiment(tmp_path / "x.yaml", tmp_path / "none")


def test_what_is_missing_is_named(tmp_path):
    found = wrong(tmp_path / "x.yaml", {"name": "x"})
    assert {name for what, name in found if what == "missing setting"} == {
        "base", "tasks", "learning_rates",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["a: [", "- 1", ""])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    assert [what for what, _ in wrong(tmp_path / "x.yaml", text)] == ["cannot read config"]


def test_an_experiment_is_the_same_after_json(tiny_base, tmp_path):
    experiment = write_experiment(tmp_path / "x.yaml", tiny_base, write_tasks(tmp_path))
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment


def test_paths_are_beside_the_file(tmp_path):
    data = write_tasks(tmp_path / "data")
    values = GOOD | {"tasks": {"one": "data/one.jsonl", "two": "owner/hub-name"}}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(values))
    read = read_experiment(tmp_path / "x.yaml")
    assert read.tasks["one"].dataset == str(data / "one.jsonl")
    assert read.tasks["two"].dataset == "owner/hub-name"


def test_the_rank_of_the_arms_is_that_of_the_merge(tmp_path):
    def rank(**more):
        return Experiment(**GOOD | {"tasks": {n: {"dataset": n} for n in "ab"}} | more).rank

    assert rank() == 16
    assert rank(choose={"k": 4}) == 32
    assert rank(merge={"method": "factor_average"}) == 8
    assert rank(merge={"rank": "12"}) == 12
    assert rank(match_rank=False) == rank(merge={"rank": "max"}) == 8


def test_a_file_extends_another_name_by_name(tmp_path):
    write_tasks(tmp_path / "data")
    below = GOOD | {"tasks": {"one": "data/one.jsonl", "b": "b"}, "train": {"lora_r": 4}}
    (tmp_path / "below.yaml").write_text(yaml.safe_dump(below))
    above = {"extends": "../below.yaml", "name": "y", "train": {"epochs": 2}, "seeds": [7]}
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/above.yaml").write_text(yaml.safe_dump(above))
    read = read_experiment(tmp_path / "sub/above.yaml")
    assert (read.name, read.seeds, read.train.lora_r, read.train.epochs) == ("y", (7,), 4, 2)
    assert read.tasks["one"].dataset == str(tmp_path / "data/one.jsonl")


def test_files_that_extend_each_other_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b.yaml")
    (tmp_path / "b.yaml").write_text("extends: a.yaml")
    with pytest.raises(UsageError, match="lead back"):
        read_experiment(tmp_path / "a.yaml")


RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_can_be_read(path):
    experiment = read_experiment(path)
    assert experiment.name in (path.stem, "paper", "paper-full")
