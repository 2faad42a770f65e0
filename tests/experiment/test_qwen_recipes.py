"""The recipes of the paper's benchmarks on a base that names letters, from end to end in little."""

from pathlib import Path

import pytest
import yaml

from helpers import prompt_rows, write_jsonl
from mashup.experiment.run import prepare, run_jobs
from mashup.experiment.settings import read_experiment
from mashup.results.records import data_of, pool_of

RECIPES = Path(__file__).parents[2] / "recipes"
NAMES = ("qwen-benchmarks", "qwen-benchmarks-full")
ARMS = {"scratch", "mashup", "merged-untrained", "format-only", "blind"}
VARIANTS = {"by-accuracy", "factor-average"}


def in_little(name, folder, base):
    """The recipe on a tiny base, with a few rows of its own for each of its tasks."""
    recipe = read_experiment(RECIPES / f"{name}.yaml")
    tasks = {
        task: {
            "dataset": str(folder / f"{task}.jsonl"),
            "relatives": list(recipe.tasks[task].relatives),
        }
        for task in recipe.sources
    }
    for number, task in enumerate(tasks):
        write_jsonl(folder / f"{task}.jsonl", prompt_rows(60, " " + "!" * number))
    tasks |= {
        task: {"train_rows": 8, "max_steps": 2} for task in recipe.tasks if data_of(task) != task
    }
    target = "commonsense_qa@64"
    values = {
        "extends": str(RECIPES / f"{name}.yaml"), "base": str(base), "dtype": "float32",
        "device": "cpu", "tasks": tasks, "targets": [target], "train_rows": 16, "dev_rows": 8,
        "test_rows": 8, "train": {"batch_size": 4, "max_steps": 2, "evaluations": 1}, "draws": 1,
        "choose": {"samples": 8}, "learning_rates": [0.01], "donor_learning_rates": [0.01],
        "seeds": [42],
    }  # fmt: skip
    path = folder / "little.yaml"
    path.write_text(yaml.safe_dump(values))
    return read_experiment(path), target


@pytest.mark.parametrize("name", NAMES)
def test_what_a_recipe_asks(name):
    recipe = read_experiment(RECIPES / f"{name}.yaml")
    assert recipe.base == "Qwen/Qwen2.5-Coder-1.5B-Instruct"
    assert set(recipe.arms) == ARMS
    assert set(recipe.variants) == VARIANTS
    assert recipe.variants["by-accuracy"].over(recipe).choose.criterion == "accuracy"
    assert recipe.variants["factor-average"].over(recipe).merge.method == "factor_average"
    assert recipe.choose.criterion == "auto"
    assert (recipe.train.test_points, recipe.train.keep) == ("end", "best")
    assert len({data_of(task) for task in recipe.wanted}) >= 4
    assert all(f"{data_of(task)}@64" in recipe.wanted for task in recipe.wanted if "@" in task)
    assert len(recipe.seeds) >= 2
    assert len(recipe.learning_rates) >= 2
    assert recipe.executor.kind == "local"
    assert recipe.device == "auto"
    named = {one for task in recipe.tasks.values() for one in task.relatives}
    assert named <= set(recipe.sources)


def test_the_recipe_of_families_has_relatives_for_each_target():
    recipe = read_experiment(RECIPES / "qwen-families.yaml")
    assert recipe.base == "Qwen/Qwen2.5-Coder-0.5B-Instruct"
    for target in recipe.wanted:
        family = target.split("/")[0]
        assert recipe.tasks[target].train_rows == 64
        assert recipe.tasks[target].relatives == (f"{family}/*",)
        assert sum(name.startswith(f"{family}/") for name in recipe.sources) == 3


@pytest.mark.parametrize("name", [pytest.param(NAMES[0], marks=pytest.mark.slow), NAMES[1]])
def test_a_recipe_runs_and_continues(name, tiny_base, tmp_path):
    experiment, target = in_little(name, tmp_path, tiny_base)
    prepared = prepare(experiment, tmp_path / "out")
    records = run_jobs(prepared)
    found = {pool_of(r.arm) for r in records if r.metric == "test_accuracy" and r.task == target}
    assert found - {"commonest-answer"} == ARMS | VARIANTS
    for parents in {r.donor for r in records if r.task == target and r.donor}:
        assert "commonsense_qa" not in parents
    again = prepare(experiment, tmp_path / "out")
    assert again.status.done == again.status.total
