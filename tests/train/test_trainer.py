"""Steps, and the loss against its definition."""

import pytest
import torch
from torch.nn import functional as F

from helpers import prompt_rows
from mashup import TrainSettings, UsageError, load_base
from mashup._train.trainer import (
    Collator,
    answer_loss,
    check_optimizer,
    curve_steps,
    split_batch,
    steps_of,
)
from mashup.evaluate.batches import predicting
from mashup.evaluate.head import head_only_at
from mashup.task import Example, tokenize


@pytest.mark.parametrize(
    ("examples", "values", "expected"),
    [
        (384, {}, 100),
        (5, {}, 100),
        (3200, {}, 200),
        (384, {"epochs": 1}, 24),
        (385, {"epochs": 1}, 25),
        (100, {"epochs": 2.5}, 18),
        (5, {"epochs": 1}, 1),
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
    assert curve_steps(steps, TrainSettings(evaluations=evaluations)) == expected


@pytest.mark.parametrize(
    ("apart", "expected"),
    [(4, (4, 8, 10)), (5, (5, 10)), (0.3, (3, 6, 9, 10)), (0.01, (*range(1, 11),)), (99, (10,))],
)
def test_points_of_the_curve_by_steps_or_by_a_share_of_them(apart, expected):
    assert curve_steps(10, TrainSettings(eval_steps=apart)) == expected


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


@pytest.mark.parametrize(
    ("processes", "values", "batch", "split"),
    [
        (1, {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}, 16, (4, 4)),
        (1, {"per_device_train_batch_size": 4}, 4, (4, 1)),
        (4, {"per_device_train_batch_size": 4}, 16, (4, 1)),
        (2, {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}, 24, (4, 3)),
        (2, {"batch_size": 16, "gradient_accumulation_steps": 4}, 16, (2, 4)),
        (2, {"batch_size": 16, "per_device_train_batch_size": 2}, 16, (2, 4)),
        (1, {"micro_batch_size": 2, "gradient_accumulation_steps": 4}, 8, (2, 4)),
    ],
)
def test_the_batch_in_the_words_of_trl(monkeypatch, processes, values, batch, split):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    settings = TrainSettings(**values)
    assert settings.batch_size == batch
    assert split_batch(settings) == split
    assert TrainSettings(**settings.model_dump()) == settings


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"batch_size": 16, "gradient_accumulation_steps": 2}, ("16", "4 x", "2 x", "= 8")),
        ({"batch_size": 18}, ("batch_size 18", "per_device_train_batch_size 4", "= 16")),
        ({"micro_batch_size": 2}, ("micro_batch_size 2", "per_device_train_batch_size 4")),
    ],
)
def test_sizes_that_contradict_each_other_are_named(values, named):
    with pytest.raises(ValueError, match="contradicts") as caught:
        TrainSettings(per_device_train_batch_size=4, **values)
    assert all(part in str(caught.value) for part in named)
    with pytest.raises(ValueError, match="needs per_device_train_batch_size"):
        TrainSettings(gradient_accumulation_steps=4)


def test_later_settings_leave_the_dump_of_earlier_ones_alone():
    """Keys of jobs and digests of runs hold it."""
    plain = TrainSettings().model_dump()
    assert not plain.keys() & {"optim", "eval_steps", "gradient_checkpointing"}
    assert TrainSettings(optim="adafactor").model_dump() == plain | {"optim": "adafactor"}
    by_steps = TrainSettings(eval_steps=5)
    assert by_steps.model_dump().keys() - plain.keys() == {"eval_steps"}
    assert TrainSettings(**by_steps.model_dump()) == by_steps
    with pytest.raises(ValueError, match="evaluations and eval_steps contradict"):
        TrainSettings(eval_steps=5, evaluations=4)


def test_optimizers_are_those_of_transformers():
    check_optimizer("adamw_torch")
    check_optimizer("adafactor")
    with pytest.raises(UsageError, match="did you mean adafactor"):
        check_optimizer("adafactr")
    with pytest.raises(UsageError, match="cannot use optimizer"):
        check_optimizer("galore_adamw")
