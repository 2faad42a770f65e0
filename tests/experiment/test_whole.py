"""A comparison in which all weights are trained, from full checkpoints and a LoRA."""

import json

import pytest

from helpers import assert_problem, prompt_rows, refused, write_jsonl
from lora import save_lora
from mashup import TrainSettings, compare, load_base, load_task, train
from mashup.model.base import weights_digest

SETTINGS = TrainSettings(
    finetuning_type="full", max_steps=4, batch_size=8, learning_rate=2e-3, evaluations=2
)


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, dtype="float32")


@pytest.fixture(scope="module")
def library(base, tmp_path_factory):
    """Two models trained on tasks like the target, and one LoRA."""
    folder = tmp_path_factory.mktemp("library")
    for n in (1, 2):
        rows = prompt_rows(90, f" {'!' * n}")
        task = load_task(write_jsonl(folder / f"data{n}.jsonl", rows))
        train(base, task, output=folder / f"donor{n}", settings=SETTINGS)
    save_lora(base.name, folder / "lora", size=0.01)
    return folder


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "target.jsonl"
    return load_task(write_jsonl(path, prompt_rows(90)))


def test_all_arms_train_all_weights_from_models(base, library, task, tmp_path):
    before = weights_digest(base.model)
    done = compare(
        library, base, task, output=tmp_path / "c", samples=40, criterion="loss", settings=SETTINGS
    )
    best, second = done.selection.chosen
    assert best.checkpoint.kind == "full"
    assert second.name == "lora"  # the other donor is nearly the same model as the first
    size = sum(p.numel() for p in base.model.parameters())
    for result in done.results:
        assert (result.run.path / "model.safetensors").exists()
        assert result.run.record["trainable_parameters"] == size
    about = json.loads((done.path / "comparison.json").read_text())
    assert about["settings"]["finetuning_type"] == "full"
    starts = {r.arm.name: r.curve[0].dev_loss for r in done.results}
    assert starts["mashup"] < starts["scratch"]
    assert weights_digest(base.model) == before
    assert done.page.exists()


def test_a_lora_is_not_trained_from_a_model(base, library, task, tmp_path):
    settings = SETTINGS.model_copy(update={"finetuning_type": "lora"})
    done = compare(
        library, base, task, output=tmp_path / "c", samples=40, criterion="loss", settings=settings
    )
    wholes = [p for p in done.selection.scores.left_out if p.what == "full checkpoint"]
    assert len(wholes) == 2
    assert_problem(wholes[0], "full checkpoint", where="donor1")
    with refused("full checkpoint", where="donor1"):
        compare(library / "donor1", base, task, output=tmp_path / "d", settings=settings)
    assert not (tmp_path / "d").exists()
