"""The trainable adapter: float32 weights, computing in the base's precision."""

import pytest
import torch

from lora import save_lora, some_ids
from mashup import TrainSettings, load_base
from mashup.delta import read_delta
from mashup.model import applied
from mashup.model.base import weights_digest
from mashup.train.adapter import attach, detach


def trainable(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_masters_and_gradients_are_float32_and_the_base_is_frozen(tiny_base, dtype):
    base = load_base(tiny_base, dtype=dtype)
    model = attach(base.model, TrainSettings(), None)
    model(some_ids()).logits.float().logsumexp(-1).sum().backward()
    assert trainable(model)
    for name, parameter in trainable(model).items():
        assert "lora_" in name
        assert parameter.dtype == torch.float32
        assert parameter.grad.dtype == torch.float32
    detach(model)


def test_casting_the_weights_is_what_casting_the_activations_is(tiny_base, tmp_path):
    """In float32 both are PEFT's own numbers, to the bit."""
    from lora import peft_logits

    folder = save_lora(tiny_base, tmp_path / "a")
    base = load_base(tiny_base, dtype="float32")
    model = attach(base.model, TrainSettings(), folder).eval()
    with torch.no_grad():
        found = model(some_ids()).logits
    assert torch.equal(found, peft_logits(tiny_base, folder, some_ids()))
    detach(model)


def test_an_init_gets_the_dropout_of_the_settings(tiny_base, tmp_path):
    base = load_base(tiny_base)
    folder = save_lora(tiny_base, tmp_path / "a")
    model = attach(base.model, TrainSettings(lora_dropout=0.3), folder)
    dropped = [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)]
    assert 0.3 in dropped
    detach(model)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("alpha", [8, 12])
def test_scoring_computes_what_training_starts_from_to_the_bit(tiny_base, tmp_path, dtype, alpha):
    folder = save_lora(tiny_base, tmp_path / "a", lora_alpha=alpha)
    base = load_base(tiny_base, dtype=dtype)
    with torch.no_grad():
        with applied(base.model, read_delta(folder)):
            scored = base.model(some_ids()).logits
        model = attach(base.model, TrainSettings(), folder).eval()
        assert torch.equal(model(some_ids()).logits, scored)
    detach(model)


def test_detaching_gives_back_the_base(tiny_base, tmp_path):
    base = load_base(tiny_base)
    before, names = weights_digest(base.model), [n for n, _ in base.model.named_modules()]
    for init in (None, save_lora(tiny_base, tmp_path / "a")):
        detach(attach(base.model, TrainSettings(), init))
        assert weights_digest(base.model) == before
        assert [n for n, _ in base.model.named_modules()] == names


def test_scratch_starts_at_the_base_and_depends_on_the_seed(tiny_base):
    base = load_base(tiny_base, dtype="float32")
    with torch.no_grad():
        expected = base.model(some_ids()).logits
    drawn = []
    for seed in (1, 1, 2):
        model = attach(base.model, TrainSettings(seed=seed), None).eval()
        with torch.no_grad():
            assert torch.equal(model(some_ids()).logits, expected)
        drawn.append(next(p.clone() for n, p in trainable(model).items() if "lora_A" in n))
        detach(model)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
