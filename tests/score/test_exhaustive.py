"""Scoring a library on a real tiny model."""

import shutil

import numpy as np
import pytest
import torch

import mashup
from helpers import prompt_rows, refused, write_adapter, write_jsonl
from lora import save_lora
from mashup import load_base, load_task, scan, score
from mashup.score import exhaustive


@pytest.fixture
def base(tiny_base):
    return load_base(tiny_base, dtype="float32")


@pytest.fixture
def task(tmp_path):
    return load_task(write_jsonl(tmp_path / "new.jsonl", prompt_rows(80)))


@pytest.fixture
def library(tiny_base, tmp_path):
    for seed in range(3):
        save_lora(tiny_base, tmp_path / f"lib/run{seed}", seed=seed, size=0.05 * (seed + 1))
    return tmp_path / "lib"


def counted(monkeypatch):
    """Count evaluations of the model."""
    calls = []
    real = exhaustive.evaluate
    monkeypatch.setattr(exhaustive, "evaluate", lambda *a, **k: calls.append(1) or real(*a, **k))
    return calls


def test_losses_are_those_of_peft(base, task, library, tiny_base):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from mashup.score import evaluate
    from mashup.score.exhaustive import batches_for, sample_tokens

    scores = score(library, base, task, samples=20)
    batches = batches_for(base, sample_tokens(base, task, 20, 42, 1024))
    for one in scores.ranking:
        model = AutoModelForCausalLM.from_pretrained(tiny_base)
        alone = evaluate(PeftModel.from_pretrained(model, one.checkpoint.path).eval(), batches)
        np.testing.assert_allclose(one.evaluation.losses, alone.losses, rtol=1e-4)
    assert [s.loss for s in scores.ranking] == sorted(s.loss for s in scores.ranking)
    assert scores.examples == 20


def test_the_base_is_bit_identical_afterwards(base, task, library):
    from mashup.model.base import weights_digest

    before = weights_digest(base.model)
    score(library, base, task, samples=10)
    assert weights_digest(base.model) == before


def test_a_second_call_evaluates_nothing_and_says_the_same(base, task, library, monkeypatch):
    first = score(library, base, task, samples=10)
    calls = counted(monkeypatch)
    second = score(library, base, task, samples=10)
    assert calls == []
    assert [s.loss for s in second.ranking] == [s.loss for s in first.ranking]
    assert all(s.cached for s in second.ranking)
    assert second.full_seconds == pytest.approx(first.full_seconds)


def test_an_interrupted_call_goes_on_where_it_was(base, task, library, monkeypatch):
    real, calls = exhaustive.evaluate, []

    def stop_at_third(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(exhaustive, "evaluate", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        score(library, base, task, samples=10)
    score(library, base, task, samples=10)
    assert len(calls) == 3 + 2  # base and one adapter were kept; two were missing


@pytest.mark.parametrize("change", ["sample", "seed", "weights", "settings", "base", "template"])
def test_the_cache_never_answers_for_something_else(
    base, task, library, monkeypatch, change, tiny_base
):
    score(library, base, task, samples=10)
    calls = counted(monkeypatch)
    samples, seed, expected = 10, 42, 4
    if change == "sample":
        samples = 11
    elif change == "seed":
        seed = 7
    elif change == "weights":
        save_lora(tiny_base, library / "run0", seed=9)
        expected = 1
    elif change == "settings":
        path = library / "run0/adapter_config.json"
        path.write_text(path.read_text().replace('"lora_alpha": 12', '"lora_alpha": 13'))
        expected = 1
    elif change == "base":
        base = load_base(tiny_base, dtype="float32")
        with torch.no_grad():
            base.model.model.norm.weight[0] += 0.5
    else:
        base.tokenizer.chat_template = "S" + base.tokenizer.chat_template
    score(library, base, task, samples=samples, seed=seed)
    assert len(calls) == expected


def test_a_copy_under_another_name_is_not_evaluated_again(base, task, library, monkeypatch):
    score(library, base, task, samples=10)
    shutil.copytree(library / "run1", library / "copy")
    calls = counted(monkeypatch)
    assert len(score(library, base, task, samples=10).ranking) == 4
    assert calls == []


def test_a_lora_that_changes_nothing_is_reported_and_left_out(base, task, library, tiny_base):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    fresh = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_base), LoraConfig(task_type="CAUSAL_LM", r=2)
    )
    fresh.save_pretrained(library / "untrained")
    scores = score(library, base, task, samples=10)
    assert [c.name for c in scores.unchanged] == ["untrained"]
    assert len(scores.ranking) == 3


def test_adapters_of_another_shape_are_left_out_and_said_so(base, task, library, tiny_base):
    write_adapter(library / "big", base=str(tiny_base), modules={"model.layers.9.q": (64, 64)})
    scores = score(library, base, task, samples=10)
    assert [p.what for p in scores.left_out] == ["adapter of another base"]


def test_an_adapter_that_fits_in_part_is_refused(base, task, library, tiny_base):
    modules = {"model.layers.0.self_attn.q_proj": (32, 32), "model.layers.0.mlp.no": (32, 32)}
    write_adapter(library / "part", base=str(tiny_base), modules=modules)
    with refused("adapter fits only in part", where="part"):
        score(library, base, task, samples=10)
    scores = score(library, base, task, samples=10, skip_bad=True)
    assert [p.what for p in scores.left_out] == ["adapter fits only in part"]


def test_nan_weights_are_refused_or_skipped(base, task, library, tiny_base):
    save_lora(tiny_base, library / "nan", size=float("nan"))
    with refused("weights are not finite", where="nan"):
        score(library, base, task, samples=10)
    assert len(score(library, base, task, samples=10, skip_bad=True).ranking) == 3


def test_an_adapter_that_overflows_is_left_out_and_does_not_disturb_the_ranking(
    base, task, library, tiny_base
):
    save_lora(tiny_base, library / "huge", size=1e25)
    scores = score(library, base, task, samples=10)
    assert [p.what for p in scores.left_out] == ["loss is not finite"]
    losses = [s.loss for s in scores.ranking]
    assert len(losses) == 3
    assert losses == sorted(losses)


def test_a_library_of_another_base_alone_is_refused(base, task, tmp_path):
    write_adapter(tmp_path / "lib/a", base="owner/other")
    with refused("adapter of another base", found="owner/other"):
        score(tmp_path / "lib", base, task)


def test_accuracy_can_rank(base, task, library):
    scores = score(library, base, task, samples=10, criterion="accuracy")
    accuracies = [s.accuracy for s in scores.ranking]
    assert accuracies == sorted(accuracies, reverse=True)


def test_only_training_rows_are_scored_on(task):
    held = {e.prompt_key for e in (*task.dev, *task.test)}
    sample = task.sample(1000)
    assert len(sample) == len(task.train)
    assert held.isdisjoint(e.prompt_key for e in sample)


def test_names_and_paths_do_as_well_as_values(tiny_base, task, library, tmp_path):
    by_value = score(scan(library), load_base(tiny_base), task, samples=10)
    by_name = mashup.score(str(library), str(tiny_base), tmp_path / "new.jsonl", samples=10)
    assert [s.loss for s in by_name.ranking] == [s.loss for s in by_value.ranking]
