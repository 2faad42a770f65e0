"""The gradient strategy through the front door, on a real tiny model."""

import numpy as np
import pytest

from helpers import prompt_rows, write_jsonl
from lora import save_lora
from mashup import load_base, load_task, score


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, dtype="float32")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return load_task(write_jsonl(tmp_path_factory.mktemp("data") / "new.jsonl", prompt_rows(120)))


@pytest.fixture(scope="module")
def library(tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    for seed in range(40):
        save_lora(tiny_base, folder / f"run{seed:02}", seed=seed, size=0.02 * (1 + seed % 5))
    return folder


def test_sixteen_are_evaluated_and_all_have_a_prediction_or_a_loss(base, task, library):
    found = score(library, base, task, samples=64, strategy="gradient")
    assert found.strategy == "gradient"
    assert len(found.ranking) == 16
    assert len(found.expected) == 40 - 16
    assert all(np.isfinite(value) for value in found.expected.values())
    assert found.cost.forwards < 0.5 * found.cost.exhaustive


def test_predictions_are_better_than_chance(base, task, library):
    found = score(library, base, task, samples=64, strategy="gradient")
    whole = score(library, base, task, samples=64, strategy="exhaustive")
    losses = [one.loss for one in whole.ranking]
    taken = [whole.score_of(one.path).loss for one in found.ranking]
    assert np.mean(taken) < np.mean(losses)
    assert found.ranking[0].loss <= np.quantile(losses, 0.25)


def test_the_race_pays_for_the_backward_passes_too(base, task, library):
    found = score(library, base, task, samples=64, strategy="gradient")
    measured = 64 + sum(one.examples for one in found.ranking)
    assert found.cost.forwards >= measured + 3 * 32


def test_a_few_checkpoints_are_all_evaluated(base, task, tiny_base, tmp_path):
    save_lora(tiny_base, tmp_path / "lib/one", seed=1)
    found = score(tmp_path / "lib", base, task, samples=8, strategy="gradient")
    assert [one.examples for one in found.ranking] == [8]
