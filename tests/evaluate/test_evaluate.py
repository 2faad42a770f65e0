"""Losses are sums over answer tokens divided once: no batch size, order or padding in them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from helpers import prompt_rows
from mashup.evaluate.batches import make_batches
from mashup.evaluate.evaluate import evaluate
from mashup.model import load_base
from mashup.task import Example, tokenize


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, dtype="float32")


@pytest.fixture(scope="module")
def tokens(base):
    examples = [Example.of(row["prompt"] * (1 + n % 3), row["completion"] * (1 + n % 2))
                for n, row in enumerate(prompt_rows(17))]  # fmt: skip
    return tokenize(base.tokenizer, examples, max_length=512)


def one_by_one(base, tokens):
    """Loss and hit of each example, straight from the definition."""
    losses, hits = [], []
    for example in tokens:
        with torch.no_grad():
            logits = base.model(torch.tensor([example.ids])).logits[0]
        places = [i for i, answer in enumerate(example.answer) if answer]
        targets = torch.tensor([example.ids[i] for i in places])
        rows = logits[[i - 1 for i in places]]
        losses.append(float(F.cross_entropy(rows, targets, reduction="sum")))
        hits.append(bool((rows.argmax(-1) == targets).all()))
    return np.array(losses), np.array(hits)


@pytest.mark.parametrize("size", [1, 100, 300, 100_000])
def test_values_are_those_of_one_example_at_a_time(base, tokens, size):
    batches = make_batches(tokens, base.pad_id, 320, size=size)
    found = evaluate(base.model, batches)
    losses, hits = one_by_one(base, tokens)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)
    np.testing.assert_array_equal(found.correct, hits)
    assert found.tokens.tolist() == [sum(t.answer) for t in tokens]
    assert found.loss == pytest.approx(losses.sum() / sum(sum(t.answer) for t in tokens))


def test_evaluation_leaves_a_model_in_the_mode_it_was_in(base, tokens):
    base.model.train()
    evaluate(base.model, make_batches(tokens, base.pad_id, 320))
    assert base.model.training
    base.model.eval()


@given(st.lists(st.integers(2, 40), min_size=1, max_size=30), st.integers(1, 200))
def test_batches_hold_every_example_once_within_their_size(lengths, size):
    from mashup.task import Tokens

    made = [Tokens(tuple(range(n)), (False,) * (n - 1) + (True,)) for n in lengths]
    batches = make_batches(made, 0, 10, size=size)
    rows = [row for batch in batches for row in batch.rows.tolist()]
    assert sorted(rows) == list(range(len(lengths)))
    for batch in batches:
        assert batch.ids.numel() <= max(size, max(lengths))
        for row, ids, mask in zip(batch.rows.tolist(), batch.ids, batch.mask, strict=True):
            assert ids[mask.bool()].tolist() == list(made[row].ids)


def test_many_answers_times_a_large_vocabulary_are_split():
    from mashup.task import Tokens

    made = [Tokens(tuple(range(11)), (False,) + (True,) * 10)] * 8
    batches = make_batches(made, 0, 2**24, size=10_000)
    assert len(batches) == 8
