"""Mixtures of experts and models that see, against plain transformers and PEFT.

What a merge writes, loaded by ``from_pretrained``, computes what the same arithmetic on plain
state dicts does; what scoring measures is the loss of the model that transformers loads.
"""

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.testing import assert_close

from helpers import make_tokenizer, prompt_rows, write_jsonl
from kinds import load, trained, write_base
from mashup import TrainSettings, check, load_base, load_task, merge, score, train
from mashup._init import measuring
from mashup.delta import read_delta
from mashup.evaluate.evaluate import batches_for, evaluate, sample_tokens
from seeing import FAMILIES as SEEING
from seeing import write_seeing_model
from wholes import relative_of, same_bits, tensors_of

EXPERTS = ("mixtral", "qwen3-moe")
FAMILIES = (*EXPERTS, *SEEING)
IDS = torch.randint(5, 290, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    """A base, two full fine-tunings of it, and two LoRAs on it, by PEFT."""
    root, tokenizer = tmp_path_factory.mktemp(request.param), make_tokenizer()
    if request.param in SEEING:
        write_seeing_model(root / "base", tokenizer, family=request.param)
    else:
        write_base(root / "base", request.param, vocab_size=len(tokenizer))
        tokenizer.save_pretrained(root / "base")
    experts = {"target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}
    for n in range(2):
        relative_of(root / "base", root / f"full/w{n}", seed=n + 5)
        config = LoraConfig(
            r=n + 2, lora_alpha=3, target_modules=["q_proj", "v_proj"],
            **(experts if request.param in EXPERTS else {}),
        )  # fmt: skip
        wrapped = get_peft_model(load(root / "base"), config)
        generator = torch.Generator().manual_seed(n)
        for parameter in trained(wrapped):
            parameter.data.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        wrapped.save_pretrained(root / f"lora/l{n}")
    return root


@torch.no_grad()
def logits(model):
    return model(IDS).logits


def state(path, base=None):
    """The state dict of a model, or of a base with a LoRA merged into it by PEFT."""
    if base is None:
        return load(path).state_dict()
    return PeftModel.from_pretrained(load(base), path).merge_and_unload().state_dict()


def logits_of(base, values):
    """Of a model of ``values``."""
    model = load(base)
    model.load_state_dict(values)
    return logits(model)


def mean(*states):
    return {name: sum(one[name] for one in states) / len(states) for name in states[0]}


def test_the_mean_of_full_checkpoints(folder, tmp_path):
    both = [folder / f"full/w{n}" for n in range(2)]
    init = merge(both, output=tmp_path / "m", accept_base=True)
    expected = logits_of(folder / "base", mean(*map(state, both)))
    assert_close(logits(load(init.path)), expected, rtol=1e-4, atol=1e-5)
    assert tensors_of(init.path).keys() == tensors_of(folder / "base").keys()


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_loras_put_into_the_model(folder, tmp_path, method):
    base, both = folder / "base", [folder / f"lora/l{n}" for n in range(2)]
    options = {"output_kind": "full", "base": base, "untie": True, "accept_base": True}
    init = merge(both, output=tmp_path / "m", method=method, **options)
    if method == "linear":
        expected = logits_of(base, mean(*(state(one, base) for one in both)))
        assert_close(logits(load(init.path)), expected, rtol=1e-4, atol=1e-5)
    assert tensors_of(init.path).keys() == tensors_of(base).keys()


def test_a_lora_and_a_full_checkpoint(folder, tmp_path):
    base, both = folder / "base", [folder / "lora/l0", folder / "full/w0"]
    options = {"base": base, "untie": True, "accept_base": True}
    init = merge(both, output=tmp_path / "m", **options)
    expected = logits_of(base, mean(state(both[0], base), state(both[1])))
    assert_close(logits(load(init.path)), expected, rtol=1e-4, atol=1e-5)


def test_loras_merged_into_a_lora(folder, tmp_path):
    base, both = folder / "base", [folder / f"lora/l{n}" for n in range(2)]
    init = merge(both, output=tmp_path / "m", base=base, accept_base=True)
    expected = mean(*(state(one, base) for one in both))
    found = PeftModel.from_pretrained(load(base), init.path)
    assert_close(logits(found), logits_of(base, expected), rtol=1e-3, atol=1e-4)


def test_a_lora_taken_out_of_a_full_checkpoint(folder, tmp_path):
    """It has the names that PEFT looks for, and holds the change of every linear layer."""
    base, whole = folder / "base", folder / "full/w0"
    options = {"output_kind": "lora", "rank": 64, "base": base, "accept_base": True}
    init = merge([whole], output=tmp_path / "m", weights=[1.0], **options)
    found, expected, before = state(init.path, base), state(whole), state(base)
    held = [n for n in found if not torch.equal(found[n], before[n])]
    assert len([name for name in held if "self_attn.q_proj" in name]) >= 2
    for name in held:
        assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
    assert init.manifest["left_out_energy"] < 1


def test_check_takes_them(folder):
    found = check([folder / "full", folder / "lora"], base=folder / "base", accept_base=True)
    assert [report.problems for report in found] == [()] * 4


def test_scoring_is_the_loss_of_the_loaded_model(folder, tmp_path):
    task = load_task(write_jsonl(tmp_path / "new.jsonl", prompt_rows(80)))
    base = load_base(folder / "base", dtype="float32")
    batches = batches_for(base, sample_tokens(base, task, 12, 42, 1024))
    for kind in ("full", "lora"):
        scores = score(folder / kind, base, task, samples=12, accept_base=True)
        assert len(scores.ranking) == 2
        for one in scores.ranking:
            path = one.checkpoint.path
            model = load(path) if kind == "full" else PeftModel.from_pretrained(
                load(folder / "base"), path
            )  # fmt: skip
            alone = evaluate(model.eval(), batches)
            np.testing.assert_allclose(one.evaluation.losses, alone.losses, rtol=1e-4)


def test_an_init_is_measured_as_it_is_written(folder, tmp_path):
    task = load_task(write_jsonl(tmp_path / "new.jsonl", prompt_rows(80)))
    both = [folder / f"full/w{n}" for n in range(2)]
    known = measuring(both, str(folder / "base"), task, 12)
    init = merge(
        both, output=tmp_path / "m", method="greedy_soup", base=folder / "base",
        accept_base=True, **known,
    )  # fmt: skip
    (loss,) = measuring([init.path], str(folder / "base"), task, 12)["losses"]
    assert loss <= min(known["losses"]) * (1 + 1e-4)
    assert not same_bits(tensors_of(init.path), tensors_of(folder / "base"))


@pytest.mark.parametrize("finetuning", ["lora", "full"])
def test_training_goes_on_from_a_merge(folder, tmp_path, finetuning):
    """The run itself checks that step 0 has the loss that scoring measures."""
    base, kind = folder / "base", "full/w{}" if finetuning == "full" else "lora/l{}"
    task = load_task(write_jsonl(tmp_path / "new.jsonl", prompt_rows(60)))
    parents = [folder / kind.format(n) for n in range(2)]
    init = merge(parents, output=tmp_path / "init", base=base, accept_base=True)
    settings = TrainSettings(
        max_steps=2, batch_size=4, learning_rate=1e-2, evaluations=1, finetuning_type=finetuning
    )
    given = {"settings": settings, "accept_base": True}
    run = train(str(base), task, output=tmp_path / "run", init=init.path, **given)
    assert run.last.test_loss > 0
    model = load(run.path) if finetuning == "full" else PeftModel.from_pretrained(
        load(base), run.path
    )  # fmt: skip
    assert model(IDS).logits.isfinite().all()


def test_a_new_lora_leaves_the_vision_tower_alone(folder, tmp_path):
    """Rows of text do not run it; a LoRA there would stay zero."""
    if folder.name.startswith(EXPERTS):
        pytest.skip("does not see")
    task = load_task(write_jsonl(tmp_path / "new.jsonl", prompt_rows(60)))
    settings = TrainSettings(max_steps=1, batch_size=4, evaluations=1)
    run = train(str(folder / "base"), task, output=tmp_path / "run", settings=settings)
    names = read_delta(run.path).modules
    assert len(names) == 14  # seven in each of two layers
    assert not [name for name in names if "vis" in name]
