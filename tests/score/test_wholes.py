"""Full checkpoints are scored as LoRAs are: on one base in memory, by their own weights."""

import os
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import mashup
from helpers import assert_problem, prompt_rows, refused, write_jsonl, write_tiny_model
from lora import save_lora
from mashup import load_base, load_task
from mashup.evaluate.evaluate import batches_for, evaluate, sample_tokens
from mashup.model.base import weights_digest
from wholes import materialised, relative_of, tensors_of, write_whole

score = partial(mashup.score, criterion="loss")


@pytest.fixture(params=["tiny_base", "tied_base"])
def folder(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def base(folder):
    return load_base(folder, dtype="float32")


@pytest.fixture
def task(tmp_path):
    return load_task(write_jsonl(tmp_path / "new.jsonl", prompt_rows(80)))


@pytest.fixture
def library(folder, tmp_path):
    for seed in range(3):
        relative_of(folder, tmp_path / f"lib/run{seed}", seed=seed, size=0.002 * (seed + 1))
    return tmp_path / "lib"


def test_losses_are_those_of_the_loaded_model(base, task, library):
    scores = score(library, base, task, samples=20)
    batches = batches_for(base, sample_tokens(base, task, 20, 42, 1024))
    assert len(scores.ranking) == 3
    for one in scores.ranking:
        model = AutoModelForCausalLM.from_pretrained(one.checkpoint.path)
        alone = evaluate(model.eval(), batches)
        np.testing.assert_allclose(one.evaluation.losses, alone.losses, rtol=1e-4)


def test_the_base_is_bit_identical_afterwards(base, task, library):
    before = weights_digest(base.model)
    score(library, base, task, samples=10)
    assert weights_digest(base.model) == before


def test_a_lora_and_the_model_that_it_was_merged_into_score_alike(base, folder, task, tmp_path):
    lora = save_lora(folder, tmp_path / "lib/lora", size=0.02)
    materialised(folder, lora, tmp_path / "lib/whole")
    scores = score(tmp_path / "lib", base, task, samples=20)
    first, second = scores.ranking
    np.testing.assert_allclose(first.evaluation.losses, second.evaluation.losses, rtol=1e-3)
    assert scores.cosines([first.digest, second.digest])(0)[1] == pytest.approx(1, abs=1e-3)


def test_the_base_among_them_changes_nothing(base, folder, task, library):
    write_whole(library / "copy", tensors_of(folder), folder)
    scores = score(library, base, task, samples=10)
    assert [checkpoint.name for checkpoint in scores.unchanged] == ["copy"]


def test_a_model_that_was_trained_apart_is_left_out(base, folder, task, library, tokenizer):
    tied = base.model.config.tie_word_embeddings
    write_tiny_model(library / "apart", tokenizer, seed=9, tied=tied)
    scores = score(library, base, task, samples=10)
    assert len(scores.ranking) == 3
    assert_problem(*scores.left_out, "full checkpoint of another base", where="apart")
    accepted = score(library, base, task, samples=10, accept_base=True)
    assert len(accepted.ranking) == 4


def test_a_model_that_ties_otherwise_is_left_out(base, task, library, tokenizer):
    tied = base.model.config.tie_word_embeddings
    write_tiny_model(library / "deeper", tokenizer, tied=not tied)
    scores = score(library, base, task, samples=10)
    assert_problem(*scores.left_out, "tied weights differ", where="deeper", found="head")


def test_a_model_that_computes_otherwise_is_left_out(base, folder, task, library, tmp_path):
    other = write_whole(library / "other", tensors_of(folder), folder)
    text = (other / "config.json").read_text()
    (other / "config.json").write_text(text.replace('"silu"', '"gelu"'))
    scores = score(library, base, task, samples=10)
    assert_problem(*scores.left_out, "models compute differently", where="other")


def test_tensors_that_are_missing_or_grown_are_told(base, folder, task, library):
    tensors = tensors_of(folder)
    tensors.pop("model.norm.weight")
    embedding = tensors["model.embed_tokens.weight"]
    tensors["model.embed_tokens.weight"] = torch.cat((embedding, embedding[:8]))
    write_whole(library / "odd", tensors, folder)
    scores = score(library, base, task, samples=10)
    missing, grown = scores.left_out
    assert_problem(missing, "tensors missing", where="odd", found="1, the first model.norm")
    assert_problem(grown, "tensors of another shape", where="odd", found="model.embed_tokens")


def test_weights_that_are_not_finite_are_skipped_and_stop_a_strict_caller(
    base, folder, task, library
):
    tensors = tensors_of(folder)
    tensors["model.norm.weight"][0] = torch.nan
    write_whole(library / "nan", tensors, folder)
    with refused("weights are not finite", where="nan"):
        score(library, base, task, samples=10, strict=True)
    assert len(score(library, base, task, samples=10).ranking) == 3


def test_weights_that_changed_are_not_answered_for_by_the_old_ones(base, task, library):
    before = {s.name: s.loss for s in score(library, base, task, samples=10).ranking}
    path = library / "run0/model.safetensors"
    time = path.stat().st_mtime_ns
    save_file({n: t + 0.005 * torch.randn_like(t) for n, t in load_file(path).items()}, path)
    os.utime(path, ns=(time + 1, time + 1))
    after = {s.name: s.loss for s in score(library, base, task, samples=10).ranking}
    assert after["run0"] != before["run0"]
    assert after["run1"] == before["run1"]


def test_an_init_of_whole_models_is_measured_as_written(base, task, library, tmp_path):
    from mashup._init import Sample, make_init, measure

    selection = mashup.select(score(library, base, task, samples=20), k=2, errors=-np.inf)
    init = make_init(selection, base, task, Sample(20), tmp_path / "init")
    again = measure(init.path, base, task, Sample(20))
    assert init.manifest["sample"]["loss"] == pytest.approx(again.loss)
    model = AutoModelForCausalLM.from_pretrained(init.path).eval()
    batches = batches_for(base, sample_tokens(base, task, 20, 42, 1024))
    assert evaluate(model, batches).loss == pytest.approx(again.loss, rel=1e-4)
