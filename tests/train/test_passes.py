"""A batch in several passes over a prefix that is run once: losses and gradients of one pass."""

import contextlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import prompt_rows
from kinds import load, write_base
from mashup import TrainSettings, load_base
from mashup._train.adapter import attach, detach
from mashup._train.passes import SHORT, attention_for, groups, is_noisy, summed_loss
from mashup._train.trainer import Collator, answer_loss
from mashup.evaluate import prefix as prefix_module
from mashup.evaluate.batches import make_batches, predicting
from mashup.evaluate.head import head_only_at
from mashup.evaluate.prefix import common_prefix
from mashup.task import Example, tokenize
from samples import alike
from seeing import MAKERS

FAMILIES = {
    "Llama": ("llama", {}),
    "biases": ("biased", {}),
    "Gemma 3, windows": ("gemma", {"sliding_window": 24}),
    "Gemma 2, windows and soft-capping": ("gemma2", {"sliding_window": 24}),
    "Mistral, windows": ("mistral", {"sliding_window": 24}),
    "experts": ("mixtral", {}),
    "sinks": ("gpt-oss", {}),
    **{f"{name}, sees": (name, {}) for name in MAKERS},
}


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.fixture(autouse=True)
def cheap_passes(monkeypatch):
    """A pass costs next to nothing, so that small batches are cut too."""
    monkeypatch.setitem(prefix_module.PASS, "cpu", 1)


@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradient_are_those_of_one_padded_pass(tmp_path, family, full):
    name, config = FAMILIES[family]
    bare = load(write_base(tmp_path, name, **config))
    model = attach(bare, TrainSettings(finetuning_type="full" if full else "lora"), None)
    for parameter_name, parameter in model.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.05)
    tokens = alike()[:9]
    (batch,) = make_batches(tokens, 0, 320, size=10_000)
    prefix = common_prefix([batch])
    assert prefix > 4
    assert len(groups(batch.mask.sum(1).tolist(), prefix, 1)) > 1

    with head_only_at(model, predicting(batch.answer)):
        output = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
    labels = torch.where(batch.answer, batch.ids, -100)
    plain = answer_loss(output, labels, 1)
    expected = gradients(model, plain)
    for shared in (0, prefix):
        loss = summed_loss(model, batch, shared)
        torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-5)
        found = gradients(model, loss)
        assert found.keys() == expected.keys()
        for parameter, gradient in found.items():
            scale = expected[parameter].norm() + 1e-6
            assert (gradient - expected[parameter]).norm() <= 1e-4 * scale, parameter
    detach(model)


@given(st.lists(st.integers(5, 40), min_size=1, max_size=8), st.integers(0, 4), st.integers(0, 30))
def test_groups_are_the_partition_that_computes_least(lengths, prefix, cost):
    found = groups(lengths, prefix, cost)
    assert sorted(row for group in found for row in group) == list(range(len(lengths)))

    def tokens(parts):
        return sum(len(part) * (max(lengths[r] for r in part) - prefix) + cost for part in parts)

    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    cuts = range(1 << (len(order) - 1))
    every = (
        [order[a:b] for a, b in zip((0, *places), (*places, len(order)), strict=True)]
        for cut in cuts
        for places in [[n + 1 for n in range(len(order) - 1) if cut >> n & 1]]
    )
    assert tokens(found) <= min(map(tokens, every)) + cost * (len(found) == 1)


def test_rows_of_one_length_are_one_pass():
    assert groups([7, 7, 7], 3, 1) == [[0, 1, 2]]
    assert groups([100, 20, 90, 21], 10, 15) == [[0, 2], [3, 1]]


def test_noise_is_noticed(tiny_base):
    model = load_base(tiny_base).model
    assert not is_noisy(model)
    model.config.attention_dropout = 0.1
    assert is_noisy(model)
    model.config.attention_dropout = 0.0
    wrapped = attach(model, TrainSettings(lora_dropout=0.1), None)
    assert is_noisy(wrapped)
    detach(wrapped)
    assert not is_noisy(model)


def test_a_step_of_the_trainer_is_that_of_one_pass(tiny_base, tmp_path):
    """Two steps with the rows in passes end where two steps with padding end."""
    from mashup._train.trainer import AnswerTrainer, arguments

    base = load_base(tiny_base, dtype="float32")
    examples = [
        Example.of(r["prompt"] * (1 + n % 3), r["completion"])
        for n, r in enumerate(prompt_rows(16))
    ]
    tokens = list(tokenize(base.tokenizer, examples, max_length=400))
    prefix = common_prefix(make_batches(tokens, base.pad_id, 320, size=10_000))
    settings = TrainSettings(max_steps=2, batch_size=8, learning_rate=1e-2)
    ends = []
    for in_passes in (True, False):
        model = attach(base.model, settings, None)
        trainer = AnswerTrainer(
            prefix=prefix, model=model, train_dataset=tokens, data_collator=Collator(base.pad_id),
            args=arguments(settings, tmp_path / str(in_passes), 2, base.device, "none"),
        )  # fmt: skip
        trainer._in_passes = in_passes
        trainer.train()
        ends.append({n: p.detach().clone() for n, p in model.named_parameters() if "lora" in n})
        detach(model)
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=1e-3, atol=1e-4)


def test_attention_of_short_rows_is_as_close_to_float32_as_pytorchs_own(tmp_path):
    tokens = alike()[:6]
    (batch,) = make_batches(tokens, 0, 320, size=10_000)
    bare = load(write_base(tmp_path, "llama"))

    def gradient(dtype, attention):
        model = attach(bare.to(dtype), TrainSettings(), None)
        with attention:
            loss = summed_loss(model, batch, 0)
        found = torch.cat([g.flatten() for g in gradients(model, loss).values()])
        detach(model)
        return found

    exact = gradient(torch.float32, contextlib.nullcontext())
    plain = gradient(torch.bfloat16, contextlib.nullcontext())
    short = gradient(torch.bfloat16, attention_for(batch.ids, torch.bfloat16))
    assert not short.equal(plain)
    assert (short - exact).norm() < 1.2 * (plain - exact).norm()


@pytest.mark.parametrize(("length", "dtype"), [(SHORT + 1, torch.bfloat16), (9, torch.float32)])
def test_other_rows_have_pytorchs_own_attention(length, dtype):
    ids = torch.zeros(2, length, dtype=torch.long)
    assert isinstance(attention_for(ids, dtype), contextlib.nullcontext)
