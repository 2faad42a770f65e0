"""Steps, and the loss against its definition."""

import pytest
import torch
from torch.nn import functional as F

from helpers import prompt_rows
from mashup import TrainSettings, load_base
from mashup.evaluate.batches import predicting
from mashup.evaluate.head import head_only_at
from mashup.task import Example, tokenize
from mashup.train.loop import curve_steps
from mashup.train.trainer import Collator, answer_loss, split_batch, steps_of


@pytest.mark.parametrize(
    ("examples", "values", "expected"),
    [
        (384, {}, 24),
        (385, {}, 25),
        (100, {"epochs": 2.5}, 18),
        (5, {}, 1),
        (384, {"max_steps": 7}, 7),
        (384, {"epochs": 0.01}, 1),
    ],
)
def test_steps_of_a_run(examples, values, expected):
    assert steps_of(examples, TrainSettings(**values)) == expected


@pytest.mark.parametrize(
    ("steps", "evaluations", "expected"),
    [(24, 4, (6, 12, 18, 24)), (3, 8, (1, 2, 3)), (1, 1, (1,)), (10, 3, (3, 7, 10))],
)
def test_points_of_the_curve(steps, evaluations, expected):
    assert curve_steps(steps, evaluations) == expected


def test_the_loss_and_its_gradient_are_those_of_all_logits(tiny_base):
    base = load_base(tiny_base, dtype="float32")
    examples = [Example.of(r["prompt"], r["completion"]) for r in prompt_rows(5)]
    batch = Collator(base.pad_id)(tokenize(base.tokenizer, examples, max_length=99))
    labels = batch.pop("labels")
    weight = base.model.model.layers[0].mlp.up_proj.weight

    whole = base.model(**batch).logits[:, :-1].transpose(1, 2)
    expected = F.cross_entropy(whole, labels[:, 1:], reduction="sum") / 40
    (expected_gradient,) = torch.autograd.grad(expected, weight)
    with head_only_at(base.model, predicting(labels != -100)):
        loss = answer_loss(base.model(**batch), labels, 40)
    (gradient,) = torch.autograd.grad(loss, weight)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def test_processes_share_the_batch(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert split_batch(TrainSettings(batch_size=16)) == (4, 1)
    assert split_batch(TrainSettings(batch_size=16, micro_batch_size=2)) == (2, 2)


def test_micro_batches_make_exactly_the_batch():
    settings = TrainSettings(batch_size=16, micro_batch_size=4)
    assert split_batch(settings) == (4, 4)
    assert split_batch(TrainSettings(batch_size=4, micro_batch_size=9)) == (4, 1)
    with pytest.raises(ValueError, match="no multiple"):
        TrainSettings(batch_size=16, micro_batch_size=5)
