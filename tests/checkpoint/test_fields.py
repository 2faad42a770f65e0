from dataclasses import fields
from pathlib import Path

import pytest

from mashup.checkpoint.config import KNOWN, field_problems
from mashup.files import read_json

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
