"""The paper's recipes: what they say, and each of them from end to end on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from helpers import needs_benchmarks
from mashup._merge.merge import Init
from mashup.delta import read_delta
from mashup.experiment.settings import read_experiment
from mashup.task.records import known_records
from proofs import NAMES, OUTSIDE, RECIPES, TARGETS, plain_loss, prove
from wholes import tensors_of

#: Arms of the recipes that start from an init.
WARM = ("mashup", "best-single", "random-1", "average-all")
slow = pytest.mark.slow


@pytest.fixture(scope="module", params=NAMES)
def proof(request, tmp_path_factory):
    return prove(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_the_paper_fixes(name):
    recipe = read_experiment(RECIPES / f"{name}.yaml")
    train = recipe.train
    assert (train.epochs, train.max_steps, train.batch_size) == (1, None, 32)
    assert (train.scheduler, train.warmup) == ("cosine", 0.1)
    assert recipe.seeds == (42, 43, 44)
    assert (recipe.choose.k, recipe.merge.weights, recipe.merge.scale) == (2, "uniform", 1)
    assert {"scratch", "mashup", "merged-untrained"} <= set(recipe.arms)
    records = {r.name: f"{r.hub}:{r.config}" if r.config else r.hub for r in known_records()}
    assert {task: data.dataset for task, data in recipe.tasks.items()} == records
    assert recipe.wanted == tuple(recipe.tasks)
    assert len(recipe.tasks) == 8


@pytest.mark.parametrize("name", [name for name in NAMES if "full" not in name])
def test_a_recipe_of_loras_says_their_rank_and_grid(name):
    recipe = read_experiment(RECIPES / f"{name}.yaml")
    outside = recipe.library is not None
    assert recipe.train.finetuning_type == "lora"
    assert (recipe.train.lora_r, recipe.train.lora_alpha) == ((16, 32) if outside else (8, 16))
    assert recipe.rank == recipe.train.lora_r
    assert recipe.learning_rates == (5e-5, 1.6e-4, 2.7e-4, 3.8e-4, 5e-4)
    assert recipe.merge.method == ("linear" if outside else "factor_average")


@pytest.mark.parametrize("name", [name for name in NAMES if "full" in name])
def test_a_recipe_of_whole_models_says_its_grid(name):
    recipe = read_experiment(RECIPES / f"{name}.yaml")
    assert recipe.train.finetuning_type == "full"
    assert recipe.learning_rates == (5e-6, 2.7e-5, 5e-5)
    assert recipe.merge.method == "linear"


def test_the_recipes_are_of_the_papers_models():
    bases = {name: read_experiment(RECIPES / f"{name}.yaml").base for name in NAMES}
    gemmas = ("gemma-2-2b", "gemma-3-1b", "gemma-3-4b")
    expected = {f"{g}-{kind}": f"google/{g}-it" for g in gemmas for kind in ("full", "lora")}
    mistral = {"mistral-7b-lots-of-loras": "mistralai/Mistral-7B-Instruct-v0.2"}
    assert bases == expected | mistral


@slow
@needs_benchmarks
def test_every_arm_of_every_target_is_recorded(proof):
    arms = [arm if arm != "random" else "random-1" for arm in proof.experiment.arms]
    found = {(r.task, r.arm) for r in proof.records if r.metric == "test_accuracy"}
    assert found == {(target, arm) for target in TARGETS for arm in arms}
    assert proof.prepared.status.done == proof.prepared.status.total


@slow
@needs_benchmarks
def test_donors_are_trained(proof):
    tasks = set(OUTSIDE if proof.experiment.library else proof.experiment.tasks)
    assert set(proof.donors) == tasks
    for folder in proof.donors.values():
        if proof.experiment.train.is_full:
            assert_trained(tensors_of(folder), tensors_of(Path(proof.experiment.base)))
        else:
            halves = {name: t for name, t in tensors_of(folder).items() if "lora_B" in name}
            assert all(bool(t.any()) != ("vision_tower" in name) for name, t in halves.items())


def assert_trained(found, base):
    """Every tensor of the language model has moved; of text alone no vision tower learns."""
    assert found.keys() == base.keys()
    moved = {name for name in base if not torch.equal(found[name], base[name])}
    assert moved == {name for name in base if not name.startswith(("vision", "multi_modal"))}


@slow
@needs_benchmarks
def test_the_base_is_scored_as_plain_transformers_computes_it(proof):
    model = AutoModelForCausalLM.from_pretrained(proof.experiment.base)
    for job in proof.jobs("score"):
        expected = plain_loss(model, proof.sample(job))
        assert proof.result(job)["base_loss"] == pytest.approx(expected, rel=1e-4)


@slow
@needs_benchmarks
def test_a_merge_loads_plainly_and_computes_what_was_measured(proof):
    for job in proof.jobs("init", "mashup"):
        assert len(proof.parents(job)) == 2
        expected = plain_loss(loaded(proof, proof.folder(job)), proof.sample(job))
        assert proof.result(job)["loss"] == pytest.approx(expected, rel=1e-4)


def loaded(proof, folder):
    """A start as any other tool loads it."""
    if proof.experiment.train.is_full:
        model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        assert not any(report.values())
        return model
    model = AutoModelForCausalLM.from_pretrained(proof.experiment.base)
    return PeftModel.from_pretrained(model, folder)


@slow
@needs_benchmarks
def test_a_merge_is_the_mean_that_the_recipe_asks_for(proof):
    for job in proof.jobs("init", "mashup"):
        assert Init.open(proof.folder(job)).manifest["method"] == proof.experiment.merge.method
        by_delta = proof.experiment.library is not None
        read = deltas_of if by_delta else tensors_of
        found, one, other = (read(f) for f in (proof.folder(job), *proof.parents(job)))
        assert found.keys() == one.keys() == other.keys()
        for name, tensor in found.items():
            assert_close(tensor, (one[name] + other[name]) / 2, atol=1e-5, rtol=1e-4)


def deltas_of(folder):
    return {name: factors.dense() for name, factors in read_delta(folder).modules.items()}


@slow
@needs_benchmarks
def test_a_warm_start_begins_at_the_loss_that_was_measured(proof):
    for arm in WARM:
        jobs = proof.jobs("train", arm)
        assert len(jobs) == len(TARGETS)
        for run in map(proof.run, jobs):
            check = run.record["start_check"]
            assert check["step_0_loss"] == pytest.approx(check["scored_loss"], abs=1e-4)
            assert run.curve[0].dev_loss == pytest.approx(check["step_0_loss"], rel=1e-5)
