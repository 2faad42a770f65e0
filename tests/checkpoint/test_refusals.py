from dataclasses import fields

import pytest

from mashup.checkpoint.config import _FIELDS, refusal
from mashup.files import read_json


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
