"""Full checkpoints whose files name tensors otherwise than the loaded model does."""

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from helpers import prompt_rows, write_jsonl
from mashup import load_base, load_task, merge, score
from mashup._init import measuring
from mashup.evaluate.evaluate import batches_for, evaluate, sample_tokens
from mashup.model.names import names_in
from wholes import relative_of, tensors_of, write_whole

SAMPLES = 20


@pytest.fixture
def base(seeing_base):
    return load_base(seeing_base, dtype="float32")


@pytest.fixture
def rows(tmp_path):
    return write_jsonl(tmp_path / "new.jsonl", prompt_rows(80))


@pytest.fixture
def relatives(seeing_base, tmp_path):
    sizes = {1: 0.002, 2: 0.02}
    return [relative_of(seeing_base, tmp_path / f"lib/{n}", seed=n, size=sizes[n]) for n in sizes]


def test_losses_are_those_of_the_loaded_model(base, rows, relatives):
    task = load_task(rows)
    scores = score(relatives[0].parent, base, task, samples=SAMPLES)
    batches = batches_for(base, sample_tokens(base, task, SAMPLES, 42, 1024))
    assert len(scores.ranking) == len(relatives)
    for one in scores.ranking:
        model = AutoModelForCausalLM.from_pretrained(one.checkpoint.path)
        alone = evaluate(model.eval(), batches)
        np.testing.assert_allclose(one.evaluation.losses, alone.losses, rtol=1e-4)


def test_a_file_with_the_names_in_memory_is_the_same_model(base, rows, relatives, tmp_path):
    tensors = tensors_of(relatives[1])
    names = names_in(base.model, tensors)
    renamed = {names[name]: tensor for name, tensor in tensors.items()}
    assert not renamed.keys() & tensors.keys()
    write_whole(tmp_path / "two/new", renamed, relatives[1])
    write_whole(tmp_path / "two/old", tensors, relatives[1])
    one, other = score(tmp_path / "two", base, load_task(rows), samples=SAMPLES).ranking
    np.testing.assert_array_equal(one.evaluation.losses, other.evaluation.losses)


def test_a_soup_of_them_is_measured_before_it_is_written(seeing_base, rows, relatives, tmp_path):
    known = measuring(relatives, str(seeing_base), load_task(rows), SAMPLES)
    init = merge(
        relatives, output=tmp_path / "soup", method="greedy_soup", base=seeing_base,
        accept_base=True, **known,
    )  # fmt: skip
    (loss,) = measuring([init.path], str(seeing_base), load_task(rows), SAMPLES)["losses"]
    assert loss <= min(known["losses"]) * (1 + 1e-4)
