"""Parents that change one module in ways that PEFT does not load together: refused, or exact."""

import json

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from helpers import Q_PROJ, refused, write_adapter, write_json
from kinds import load_kind, save_kind, write_base
from mashup import merge
from wholes import relative_of

IDS = torch.randint(0, 300, (2, 9), generator=torch.Generator().manual_seed(1))
SAVED = {"modules_to_save": ["embed_tokens"]}
LORA = {"target_modules": ["embed_tokens", "q_proj"]}
TYING = {"ensure_weight_tying": True}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    return {family: write_base(root / family, family) for family in ("llama", "tied")}


def pair(base, folder, *configs):
    return [save_kind(base, folder / str(n), seed=n, **one) for n, one in enumerate(configs)]


@torch.no_grad()
def logits(model):
    return model.eval()(IDS).logits


@pytest.mark.parametrize(
    ("family", "one", "other", "found"),
    [
        (
            *("llama", {"modules_to_save": ["lm_head"]}, {"target_modules": ["lm_head", "q_proj"]}),
            "a LoRA on lm_head.weight",
        ),
        (
            *("llama", {"modules_to_save": ["mlp"]}, {"target_modules": ["up_proj"]}),
            "a LoRA on model.layers.0.mlp.up_proj.weight",
        ),
        ("llama", SAVED, {"target_modules": ["embed_tokens"]}, "a LoRA on model.embed_tokens"),
        ("tied", LORA, LORA | TYING, "ensure_weight_tying"),
        ("tied", SAVED, SAVED | TYING, "ensure_weight_tying"),
    ],
)
def test_what_peft_would_not_load_is_refused(bases, tmp_path, family, one, other, found):
    base = bases[family]
    parents = pair(base, tmp_path, one, other)
    with refused("cannot be merged into a LoRA", found=found) as caught:
        merge(parents, output=tmp_path / "m", base=base, accept_base=True)
    assert "`output_kind` full" in caught.value.problems[0].fix


@pytest.mark.parametrize(
    ("family", "one", "other"),
    [
        ("tied", SAVED, {"modules_to_save": ["lm_head"]}),
        ("llama", SAVED, {"target_modules": ["q_proj", "lm_head"]}),
        ("llama", {"modules_to_save": ["norm"]}, {"target_modules": ["up_proj"]}),
        ("tied", LORA | TYING, {}),
    ],
)
def test_other_mixes_compute_what_the_whole_model_does(bases, tmp_path, family, one, other):
    base = bases[family]
    parents = pair(base, tmp_path, one, other)
    lora = merge(parents, output=tmp_path / "m", base=base, accept_base=True)
    options = {"output_kind": "full", "untie": True, "accept_base": True}
    whole = merge(parents, output=tmp_path / "n", base=base, **options)
    found = logits(load_kind(base, lora.path))
    expected = logits(AutoModelForCausalLM.from_pretrained(whole.path))
    assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_copy_and_a_value_of_the_base_are_refused(bases, tmp_path):
    """In a tied base the one leaves the head as it was, and the other changes it too."""
    base = bases["tied"]
    parents = pair(base, tmp_path, SAVED, SAVED)
    path = parents[1] / "adapter_config.json"
    write_json(path, json.loads(path.read_text()) | {"modules_to_save": None})
    with refused("cannot be merged into a LoRA", found="saved with the base"):
        merge(parents, output=tmp_path / "m", base=base, accept_base=True)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "language_model."])
def test_the_same_modules_under_other_names_are_refused(tmp_path, prefix):
    one = write_adapter(tmp_path / "a", seed=1)
    two = write_adapter(tmp_path / "b", seed=2, modules={f"{prefix}{Q_PROJ}": (16, 16)})
    with refused("modules under other names", where="/b", found=prefix):
        merge([one, two], output=tmp_path / "m")


def test_other_modules_are_not_other_names(tmp_path):
    """A parent may have modules that end like those of another, if it has those as well."""
    one = write_adapter(tmp_path / "a", seed=1)
    both = {Q_PROJ: (16, 16), f"vision.{Q_PROJ}": (16, 16)}
    two = write_adapter(tmp_path / "b", seed=2, modules=both)
    assert merge([one, two], output=tmp_path / "m").manifest["modules"] == 2


def test_modules_below_a_compiled_one_are_refused(tmp_path):
    name = Q_PROJ.replace("self_attn", "_orig_mod.self_attn")
    one = write_adapter(tmp_path / "a", modules={name: (16, 16)})
    with refused("modules under other names", where="/a", found=name):
        merge([one], output=tmp_path / "m")


@pytest.mark.parametrize("method", ["ties", "dare_linear", "della", "slerp", "model_stock"])
def test_values_and_a_lora_of_one_tensor_are_no_two_merges(bases, tmp_path, method):
    """PEFT saves an embedding's values with a LoRA on it: a method must see both in one delta."""
    base = bases["llama"]
    whole, lora = relative_of(base, tmp_path / "w", seed=1), save_kind(base, tmp_path / "l", **LORA)
    given = {"base": base, "accept_base": True, "output_kind": "lora", "rank": 32}
    with refused("cannot be merged into a LoRA", where=method, found="model.embed_tokens.weight"):
        merge([whole, lora], output=tmp_path / "m", method=method, **given)
    merge([whole, lora], output=tmp_path / "m", method="task_arithmetic", **given)


@pytest.mark.parametrize("method", ["ties", "breadcrumbs", "slerp", "model_stock"])
def test_values_of_the_base_beside_a_lora_are_no_change(bases, tmp_path, method):
    base = bases["llama"]
    loras = pair(base, tmp_path, LORA, LORA)
    given = {"base": base, "method": method}
    lora = merge(loras, output=tmp_path / "m", rank=32, **given).path
    full = merge(loras, output=tmp_path / "n", output_kind="full", **given).path
    found, wanted = (
        logits(load_kind(base, lora)),
        logits(AutoModelForCausalLM.from_pretrained(full)),
    )
    assert_close(found, wanted, rtol=1e-4, atol=1e-4)
