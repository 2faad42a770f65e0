import json
from dataclasses import fields
from pathlib import Path

import pytest

from helpers import refused, write_adapter, write_json
from mashup.checkpoint import AdapterConfig, read_adapter, read_adapter_config
from mashup.checkpoint.config import _FIELDS, CONFIG, KNOWN, field_problems, refusal
from mashup.files import read_json


def change(folder, **settings):
    """Change settings of an adapter; ``...`` takes one away."""
    config = json.loads((folder / CONFIG).read_text()) | settings
    write_json(folder / CONFIG, {key: value for key, value in config.items() if value is not ...})
    return folder


def test_settings_are_read_with_their_defaults(tmp_path):
    write_adapter(tmp_path, base=" owner/tiny ", rank=4, alpha=8)
    assert read_adapter_config(tmp_path) == AdapterConfig("owner/tiny", None, 4, 8.0)


def test_all_settings_that_change_what_weights_mean_are_read(tmp_path):
    patterns = {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 3}}
    write_adapter(tmp_path, use_rslora=True, fan_in_fan_out=True, revision="abc", **patterns)
    expected = AdapterConfig("owner/tiny", "abc", 4, 8.0, True, True, *patterns.values())
    assert read_adapter_config(tmp_path) == expected


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 3, "v_proj": 5}},
        {"rank_pattern": {r"layers\.1\..*": 3}, "alpha_pattern": {"0.mlp.up_proj": 1}},
        {"use_rslora": True, "rank_pattern": {"up_proj": 9}, "alpha_pattern": {"up_proj": 6}},
        {"alpha_pattern": {"up_proj": 1, "model.layers.0.self_attn.q_proj": 7, ".*q_proj": 2}},
    ],
)
def test_scales_and_ranks_are_those_that_peft_loads(tiny_base, tmp_path, settings):
    from peft import LoraConfig, PeftModel, get_peft_model
    from peft.tuners.lora import LoraLayer
    from transformers import AutoModelForCausalLM

    targets = ["q_proj", "v_proj", "up_proj"]
    lora = LoraConfig(r=4, lora_alpha=10, target_modules=targets, **settings)
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_base), lora).save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base), tmp_path)

    layers = {
        name.removeprefix("base_model.model."): (layer.r["default"], layer.scaling["default"])
        for name, layer in loaded.named_modules()
        if isinstance(layer, LoraLayer)
    }
    read = read_adapter(tmp_path, read_adapter_config(tmp_path)).modules
    assert {name: (module.rank, module.scale) for name, module in read.items()} == layers


def test_a_pattern_matches_whole_parts_of_a_name():
    config = AdapterConfig("", None, 4, 8, rank_pattern={"proj": 1}, alpha_pattern={"proj": 1})
    assert (config.rank_of("mlp.up_proj"), config.scale("mlp.up_proj", 4)) == (4, 2.0)
    assert (config.rank_of("mlp.proj"), config.scale("mlp.proj", 1)) == (1, 1.0)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"r": ...}, "no 'r'"),
        ({"lora_alpha": ...}, "no 'lora_alpha'"),
        ({"r": "many"}, 'r: "many"'),
        ({"lora_alpha": None}, "lora_alpha: null"),
        ({"base_model_name_or_path": 7}, "base_model_name_or_path: 7"),
        ({"rank_pattern": ["q_proj"]}, 'rank_pattern: ["q_proj"]'),
        ({"alpha_pattern": {"*q_proj": 2}}, "alpha_pattern"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, settings, found):
    change(write_adapter(tmp_path), **settings)
    with refused("bad adapter settings", where=CONFIG, found=found):
        read_adapter_config(tmp_path)


def test_settings_that_are_no_object_are_refused(tmp_path):
    write_json(tmp_path / CONFIG, ["LORA"])
    with refused("bad adapter settings", found="a list"):
        read_adapter_config(tmp_path)


def test_settings_that_are_not_json_are_refused(tmp_path):
    (write_adapter(tmp_path) / CONFIG).write_text('{"r": 4')
    with refused("not JSON", where=CONFIG):
        read_adapter_config(tmp_path)


def test_missing_settings_are_refused(tmp_path):
    with refused("cannot read file", where=CONFIG):
        read_adapter_config(tmp_path)


def test_what_is_not_plain_lora_is_refused_by_name(tmp_path):
    with refused("not a plain LoRA", where=CONFIG, found="DoRA"):
        read_adapter_config(write_adapter(tmp_path, use_dora=True))


PLAIN = {"peft_type": "LORA", "r": 8, "lora_alpha": 16}


def found(**settings):
    """What is said of the settings; ``...`` takes one away."""
    config = {name: value for name, value in (PLAIN | settings).items() if value is not ...}
    return [problem.found for problem in field_problems(Path("adapter_config.json"), config)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"r": True}, "r: true"),
        ({"r": 8.0}, "r: 8.0"),
        ({"r": "8"}, 'r: "8"'),
        ({"r": 0}, "r: 0"),
        ({"r": ...}, "no 'r'"),
        ({"r": None}, "r: null"),
        ({"lora_alpha": float("nan")}, "lora_alpha: NaN"),
        ({"lora_alpha": float("inf")}, "lora_alpha: Infinity"),
        ({"lora_alpha": 10**400}, "lora_alpha: 1000"),
        ({"lora_alpha": 1e308}, "lora_alpha: 1e+308"),
        ({"lora_alpha": "16"}, 'lora_alpha: "16"'),
        ({"use_rslora": "false"}, 'use_rslora: "false"'),
        ({"fan_in_fan_out": 0}, "fan_in_fan_out: 0"),
        ({"peft_type": "lora"}, 'peft_type: "lora"'),
        ({"task_type": "CHAT"}, 'task_type: "CHAT"'),
        ({"bias": True}, "bias: true"),
        ({"lora_dropout": 1.5}, "lora_dropout: 1.5"),
        ({"target_modules": ["q", 1]}, 'target_modules: ["q", 1]'),
        ({"target_modules": "(q"}, 'target_modules: "(q"'),
        ({"rank_pattern": {"q": 2.0}}, 'rank_pattern: {"q": 2.0}'),
        ({"rank_pattern": {"(": 2}}, 'rank_pattern: {"(": 2}'),
        ({"rank_pattern": {"(" * 5000 + ")" * 5000: 2}}, "rank_pattern"),
        ({"rank_pattern": 0}, "rank_pattern: 0"),
        ({"alpha_pattern": {"q": None}}, 'alpha_pattern: {"q": null}'),
        ({"use_newlora": True}, "use_newlora: true"),
    ],
)
def test_what_peft_would_misread_or_fail_on_is_named(settings, said):
    (text,) = found(**settings)
    assert text.startswith(said)


def test_all_wrong_fields_are_named_at_once():
    assert found(r="8", lora_alpha=None, new=[1]) == ['r: "8"', "lora_alpha: null", "new: [1]"]


@pytest.mark.parametrize(
    "settings",
    [
        {"lora_alpha": -16},
        {"lora_alpha": 0.5},
        {"use_rslora": None, "rank_pattern": None, "target_modules": None},
        {"use_newlora": False, "newlora_config": None, "newlora_names": []},
        {"lora_dtype": "bfloat16", "lorap_emb_lr": 1e-6},
        {"layers_to_transform": 3},
        {"trainable_token_indices": {"embed_tokens": [1, 2]}},
    ],
)
def test_what_means_one_thing_is_fine(settings):
    assert found(**settings) == []


def test_what_peft_saves_is_fine_and_every_field_that_it_has_is_known(tmp_path):
    from peft import LoraConfig, TaskType

    LoraConfig(task_type=TaskType.CAUSAL_LM, target_modules=["q"]).save_pretrained(tmp_path)
    assert found(**read_json(tmp_path / "adapter_config.json")) == []
    assert {field.name for field in fields(LoraConfig)} <= KNOWN
    for task in TaskType:
        assert found(task_type=task.value) == []


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"peft_type": "IA3"}, "PEFT type IA3"),
        ({"peft_type": "VERA"}, "PEFT type VERA"),
        ({"peft_type": None}, "PEFT type (none)"),
        ({"use_dora": True}, "DoRA"),
        ({"use_qalora": True}, "QA-LoRA"),
        ({"kasa_config": {"beta": 1e-4}}, "KaSA"),
        ({"layer_replication": [[0, 4], [2, 5]]}, "replicated layers"),
        ({"alora_invocation_tokens": [1, 2]}, "aLoRA"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"init_lora_weights": "pissa_niter_16"}, "pissa_niter_16"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"init_lora_weights": "corda"}, "corda"),
        ({"init_lora_weights": "loftq"}, "loftq"),
        ({"init_lora_weights": "lora_ga"}, "lora_ga"),
    ],
)
def test_what_is_not_additive_is_refused_by_the_name_that_people_know(settings, name):
    refused = refusal({"peft_type": "LORA"} | settings)
    assert refused is not None
    assert name in refused[0]
    assert refused[1]


@pytest.mark.parametrize("init", [True, False, "gaussian", "eva", "orthogonal", "mica"])
def test_initialisations_that_leave_the_base_alone_are_fine(init):
    assert refusal({"peft_type": "LORA", "init_lora_weights": init}) is None


def test_what_peft_writes_for_a_plain_lora_is_fine(tmp_path):
    from peft import LoraConfig

    LoraConfig(r=4, use_rslora=True, target_modules="all-linear").save_pretrained(tmp_path)
    assert refusal(read_json(tmp_path / "adapter_config.json")) is None


def test_every_variant_that_the_installed_peft_knows_is_refused():
    from peft import LoraConfig

    variants = {field.name for field in fields(LoraConfig) if field.metadata.get("is_lora_variant")}
    assert "use_dora" in variants
    assert [v for v in sorted(variants) if refusal({"peft_type": "LORA", v: True}) is None] == []


#: Settings that decide what the weights mean and are honoured.
READ = {
    *("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("bias", "lora_bias", "modules_to_save", "trainable_token_indices", "target_parameters"),
    *("ensure_weight_tying", "init_lora_weights", "peft_type"),
    *("base_model_name_or_path", "revision"),
}
#: Settings of the start of a training, of saving or of speed: the weights mean the same.
HARMLESS = {
    *("lora_dropout", "loftq_config", "eva_config", "corda_config", "lora_ga_config"),
    *("runtime_config", "megatron_core", "qalora_group_size", "task_type", "inference_mode"),
    *("auto_mapping", "peft_version"),
}


def test_every_setting_of_the_installed_peft_is_known():
    """A new one must be looked at: does it change what the weights mean?"""
    from peft import LoraConfig

    assert {field.name for field in fields(LoraConfig)} == READ | HARMLESS | set(_FIELDS)
