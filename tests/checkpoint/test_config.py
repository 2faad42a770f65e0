import json

import pytest

from helpers import refused, write_adapter, write_json
from mashup.checkpoint import AdapterConfig, read_adapter, read_adapter_config
from mashup.checkpoint.config import CONFIG


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
