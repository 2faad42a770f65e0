"""The trainable adapter: float32 weights, computing in the base's precision."""

import pytest
import torch

from helpers import prompt_rows, refused, write_jsonl
from lora import save_lora, some_ids
from mashup import TrainSettings, UsageError, load_base, load_task, train
from mashup._train.adapter import attach, detach
from mashup.delta import read_delta
from mashup.model import applied
from mashup.model.base import weights_digest


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


def four_bits(folder, tokenizer):
    """A base whose layers are wide enough to be quantised in blocks."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_base(folder, dtype="float32", load_in_4bit=True)


def test_an_adapter_trains_beside_4_bits(tokenizer, tmp_path):
    pytest.importorskip("bitsandbytes")
    base = four_bits(tmp_path / "base", tokenizer)
    task = load_task(write_jsonl(tmp_path / "even.jsonl", prompt_rows(90)))
    few = TrainSettings(max_steps=4, batch_size=8, learning_rate=1e-2, evaluations=1)
    run = train(base, task, output=tmp_path / "run", settings=few)
    assert run.last.dev_loss < run.curve[0].dev_loss - 0.2
    warm = train(base, task, output=tmp_path / "warm", init=run.path, settings=few)
    check = warm.record["start_check"]
    assert check["step_0_loss"] == pytest.approx(check["scored_loss"], abs=1e-3)
    assert warm.curve[0].dev_loss == pytest.approx(run.last.dev_loss, abs=1e-3)
    full = few.model_copy(update={"finetuning_type": "full"})
    with refused("cannot train all weights", found="quantised"):
        train(base, task, output=tmp_path / "full", settings=full)


def test_4_bits_without_the_package_are_refused(tiny_base, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="cannot load in 4 bits"):
        load_base(tiny_base, load_in_4bit=True)


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
