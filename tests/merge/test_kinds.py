"""Every additive kind of LoRA merges exactly: into a LoRA that PEFT loads, and into a model."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from helpers import refused, write_json
from kinds import KINDS, load_kind, save_kind, write_base
from mashup import merge
from mashup._check import check
from mashup._merge import changes, combine
from wholes import relative_of, same_bits, tensors_of

IDS = torch.randint(0, 300, (2, 9), generator=torch.Generator().manual_seed(1))
#: Kinds that a merged LoRA cannot hold.
ONLY_FULL = [kind for kind in KINDS if kind.startswith(("token rows", "bias of B"))]
#: A model without biases has no place for what lora_bias adds.
NO_PLACE = ["bias of B on a base without"]
LORA = [kind for kind in KINDS if kind not in ONLY_FULL]
FULL = [kind for kind in KINDS if kind not in NO_PLACE]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    return {family: write_base(root / family, family) for family, _ in KINDS.values()}


def parents(bases, tmp_path, kind, count=2):
    family, config = KINDS[kind]
    base = bases[family]
    return base, [save_kind(base, tmp_path / f"p{n}", seed=n, **config) for n in range(count)]


@torch.no_grad()
def logits(model):
    return model.eval()(IDS).logits


@pytest.mark.parametrize("kind", LORA)
def test_one_parent_comes_back_as_a_lora_with_its_own_logits(bases, tmp_path, kind):
    base, (one,) = parents(bases, tmp_path, kind, 1)
    init = merge([one], output=tmp_path / "m", weights=[1.0], accept_base=True)
    found, expected = (logits(load_kind(base, path)) for path in (init.path, one))
    assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", FULL)
def test_one_parent_becomes_a_model_with_its_own_logits(bases, tmp_path, kind):
    base, (one,) = parents(bases, tmp_path, kind, 1)
    options = {"output_kind": "full", "base": base, "untie": True, "accept_base": True}
    init = merge([one], output=tmp_path / "m", weights=[1.0], **options)
    found = logits(AutoModelForCausalLM.from_pretrained(init.path))
    assert_close(found, logits(load_kind(base, one)), rtol=1e-4, atol=1e-4)


def tensors(folder):
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("kind", FULL)
def test_two_parents_become_the_mean_of_their_models(bases, tmp_path, kind):
    base, both = parents(bases, tmp_path, kind)
    options = {"output_kind": "full", "base": base, "untie": True, "accept_base": True}
    alone = [
        tensors(merge([p], output=tmp_path / f"m{n}", weights=[1.0], **options).path)
        for n, p in enumerate(both)
    ]
    found = tensors(merge(both, output=tmp_path / "m", **options).path)
    for name, tensor in found.items():
        assert_close(tensor, (alone[0][name] + alone[1][name]) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in FULL if kind in LORA])
def test_a_merged_lora_computes_the_mean_of_the_parents_models(bases, tmp_path, kind):
    base, both = parents(bases, tmp_path, kind)
    lora = merge(both, output=tmp_path / "l", base=base, output_kind="lora", accept_base=True)
    options = {"output_kind": "full", "base": base, "untie": True, "accept_base": True}
    full = merge(both, output=tmp_path / "f", **options)
    expected = logits(AutoModelForCausalLM.from_pretrained(full.path))
    assert_close(logits(load_kind(base, lora.path)), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["experts", "experts and router", "everything"])
def test_experts_of_two_parents_are_the_mean_expert_by_expert(bases, tmp_path, kind):
    base, both = parents(bases, tmp_path, kind)
    init = merge(both, output=tmp_path / "m", accept_base=True)
    merged, *each = (load_kind(base, path).merge_and_unload() for path in (init.path, *both))
    first, second = (model.state_dict() for model in each)
    for name, tensor in merged.state_dict().items():
        assert_close(tensor, (first[name] + second[name]) / 2, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ONLY_FULL)
def test_what_a_lora_cannot_hold_is_refused_with_the_way_out(bases, tmp_path, kind):
    _, both = parents(bases, tmp_path, kind)
    with refused("cannot be merged into a LoRA", where=str(tmp_path)):
        merge(both, output=tmp_path / "m", accept_base=True)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("kind", ["experts", "everything"])
def test_a_models_files_keep_their_experts_apart(bases, tmp_path, kind):
    """A model that a LoRA on stacked experts is merged into has the names of its base's files."""
    base, both = parents(bases, tmp_path, kind)
    options = {"output_kind": "full", "base": base, "accept_base": True}
    found = tensors(merge(both, output=tmp_path / "m", **options).path)
    assert found.keys() == tensors(base).keys()
    assert any(".experts.2.w3." in name for name in found)
    shards = merge(both, output=tmp_path / "s", shard_size=0.00002, **options)
    assert len(list(shards.path.glob("*.safetensors"))) > 2
    assert same_bits(tensors_of(shards.path), found)


@pytest.mark.parametrize("size", [50, 400, 1500])
def test_pieces_that_end_within_an_expert_are_read_and_written(bases, tmp_path, monkeypatch, size):
    """A stack that no LoRA changes is merged in pieces of another length than its experts."""
    base = bases["mixtral"]
    full = relative_of(base, tmp_path / "full", seed=3)
    both = [save_kind(base, tmp_path / "lora", target_modules=["q_proj"]), full]
    options = {"base": base, "accept_base": True}
    expected = tensors(merge(both, output=tmp_path / "whole", **options).path)
    for module in (changes, combine):
        monkeypatch.setattr(module, "CHUNK", size)
    found = tensors(merge(both, output=tmp_path / "pieces", **options).path)
    for name, tensor in expected.items():
        assert_close(found[name], tensor, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("ids", [[3, 320], [-1, 319]])
def test_new_rows_beyond_the_embedding_are_refused(bases, tmp_path, ids):
    """They were dropped: the base that they were trained on had been resized."""
    base, (one,) = parents(bases, tmp_path, "token rows", 1)
    path = one / "adapter_config.json"
    config = json.loads(path.read_text())
    write_json(path, config | {"trainable_token_indices": [*ids, 7]})
    options = {"output_kind": "full", "base": base, "accept_base": True}
    with refused("tensors of another shape", found="model.embed_tokens.weight"):
        merge([one], output=tmp_path / "m", **options)
    (report,) = check([one], base=base)
    assert report.problems[0].what == "tensors of another shape"


def test_a_square_conv1d_is_turned_though_the_settings_do_not_say(bases, tmp_path):
    """A Linear among the targets makes PEFT write fan_in_fan_out: false."""
    targets = {"target_modules": ["attn.c_proj", "lm_head"]}
    one = save_kind(bases["gpt2"], tmp_path / "a", fan_in_fan_out=True, **targets)
    assert not json.loads((one / "adapter_config.json").read_text())["fan_in_fan_out"]
    options = {"output_kind": "full", "base": bases["gpt2"], "untie": True, "accept_base": True}
    init = merge([one], output=tmp_path / "m", weights=[1.0], **options)
    found = logits(AutoModelForCausalLM.from_pretrained(init.path))
    assert_close(found, logits(load_kind(bases["gpt2"], one)), rtol=1e-4, atol=1e-4)


def test_rows_reach_the_head_of_a_model_that_is_untied_whatever_its_layout(bases, tmp_path):
    """New rows of a tied embedding are the head's too; a turned module must not undo that."""
    kinds = {"trainable_token_indices": {"wte": [3, 7]}, "fan_in_fan_out": True}
    one = save_kind(bases["gpt2"], tmp_path / "a", target_modules=["attn.c_proj"], **kinds)
    two = save_kind(
        bases["gpt2"], tmp_path / "b", target_modules=["lm_head", "attn.c_proj"], seed=1
    )
    options = {"base": bases["gpt2"], "untie": True, "accept_base": True, "output_kind": "full"}
    init = merge([one, two], output=tmp_path / "m", weights=[1.0, 0.0], **options)
    for path in (one, two):
        config = json.loads((path / "adapter_config.json").read_text())
        write_json(path / "adapter_config.json", config | {"fan_in_fan_out": False})
    both = merge([one, two], output=tmp_path / "n", weights=[1.0, 1e-12], **options)
    found = logits(AutoModelForCausalLM.from_pretrained(both.path))
    assert_close(found, logits(AutoModelForCausalLM.from_pretrained(init.path)))


@pytest.mark.parametrize("kind", ONLY_FULL)
def test_check_says_of_rows_and_biases_what_a_merge_does(bases, tmp_path, kind):
    if kind in NO_PLACE:
        pytest.skip("check knows that a LoRA may bring biases, a merge into a model has no place")
    base, (one,) = parents(bases, tmp_path, kind, 1)
    (report,) = check([one], base=base, accept_base=True)
    assert not report.problems
