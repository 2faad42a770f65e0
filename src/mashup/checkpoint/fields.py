"""The fields of ``adapter_config.json`` with their types: a wrong one is never guessed at.

Names and types are those of PEFT's ``LoraConfig`` (PEFT 0.21). PEFT checks few of them, so that
``"use_rslora": "false"`` would count as true, and a rank of 8.0 fail deep inside torch. A field
that nobody knows and that says more than "no" may be a new kind of LoRA: PEFT only warns and
would compute something else, so it is refused here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mashup.errors import Problem

_LONGEST_PATTERN = 10_000  # characters
_TASKS = (
    *("SEQ_CLS", "SEQ_2_SEQ_LM", "CAUSAL_LM", "TOKEN_CLS", "QUESTION_ANS"),
    "FEATURE_EXTRACTION",
)
Test = Callable[[Any], bool]


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _is_number(value: Any) -> bool:
    if type(value) not in (int, float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _are_whole(value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is int for one in value)


def _is_pattern(value: Any) -> bool:
    """A regular expression that compiles, or any other name."""
    if not isinstance(value, str) or len(value) > _LONGEST_PATTERN:
        return False
    try:
        return re.compile(value) is not None
    except (re.error, OverflowError, RecursionError):
        return False


def _pattern_to(test: Test) -> Test:
    def check(value: Any) -> bool:
        pairs = value.items() if isinstance(value, dict) else [(None, None)]
        return all(_is_pattern(name) and test(number) for name, number in pairs)

    return check


def _any_of(*tests: Test) -> Test:
    return lambda value: any(test(value) for test in tests)


def _is_rank(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_alpha(value: Any) -> bool:
    """A number that float32 can hold after it is multiplied with a LoRA's."""
    return _is_number(value) and abs(value) <= 1e30


def _one_of(*values: str) -> Test:
    return lambda value: isinstance(value, str) and value in values


def _are_tokens(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_are_whole(ids) for ids in value.values())
    return _are_whole(value)


_NAMES = (_any_of(_is_pattern, _are_texts), "names, or one pattern")
_LIST = (_are_texts, "names")
_FLAG = (_is_flag, "true or false")
_DICT = (_is_dict, "settings")
_TEXT = (_is_text, "a text")

#: Field -> test of its value, and what it should be. None stands for absent.
_FIELDS: dict[str, tuple[Test, str]] = {
    "peft_type": (_one_of("LORA"), "LORA"),
    "task_type": (_one_of(*_TASKS), f"one of {', '.join(_TASKS)}"),
    "r": (_is_rank, "a whole number of at least 1"),
    "lora_alpha": (_is_alpha, "a number between -1e30 and 1e30"),
    "lora_dropout": (lambda p: _is_number(p) and 0 <= p <= 1, "a number from 0 to 1"),
    "bias": (_one_of("none", "all", "lora_only"), "none, all or lora_only"),
    "rank_pattern": (_pattern_to(_is_rank), "patterns of names to whole numbers"),
    "alpha_pattern": (
        _pattern_to(_is_alpha),
        "patterns of names to numbers between -1e30 and 1e30",
    ),
    "init_lora_weights": (_any_of(_is_flag, _is_text), "true, false or a name"),
    "layers_to_transform": (_any_of(_is_whole, _are_whole), "numbers of layers"),
    "trainable_token_indices": (_are_tokens, "numbers of tokens"),
    "alora_invocation_tokens": (_are_whole, "numbers of tokens"),
    "qalora_group_size": (_is_whole, "a whole number"),
    "layer_replication": (lambda value: isinstance(value, list), "a list"),
    **dict.fromkeys(("target_modules", "exclude_modules", "layers_pattern"), _NAMES),
    **dict.fromkeys(("modules_to_save", "target_parameters"), _LIST),
    **dict.fromkeys(("use_rslora", "fan_in_fan_out", "use_dora", "use_qalora"), _FLAG),
    **dict.fromkeys(("lora_bias", "inference_mode", "ensure_weight_tying"), _FLAG),
    **dict.fromkeys(("base_model_name_or_path", "revision"), _TEXT),
    **dict.fromkeys(("peft_version", "megatron_core"), _TEXT),
    **dict.fromkeys(("auto_mapping", "loftq_config", "eva_config", "corda_config"), _DICT),
    **dict.fromkeys(("lora_ga_config", "velora_config", "monteclora_config"), _DICT),
    **dict.fromkeys(("kasa_config", "arrow_config", "megatron_config", "use_bdlora"), _DICT),
    "runtime_config": _DICT,
}
_NEEDED = ("peft_type", "r", "lora_alpha")
#: Fields of other trainers (ms-swift) that do not change what the weights mean.
_HARMLESS = ("lora_dtype", "lorap_lr_ratio", "lorap_emb_lr")
#: All fields whose meaning, or harmlessness, is known.
KNOWN = frozenset((*_FIELDS, *_HARMLESS))


def field_problems(path: Path, config: dict[str, Any]) -> list[Problem]:
    """What cannot be in an ``adapter_config.json``, a problem a field."""
    return [*_wrong(path, config), *_unknown(path, config)]


def _wrong(path: Path, config: dict[str, Any]) -> list[Problem]:
    problems = []
    for name, (test, expected) in _FIELDS.items():
        value = config.get(name)
        if (value is None and name not in _NEEDED) or (value is not None and test(value)):
            continue
        found = f"{name}: {json.dumps(value)[:200]}" if name in config else f"no {name!r}"
        fix = "use the adapter_config.json that PEFT saved with these weights"
        problems.append(Problem("bad adapter settings", str(path), found, expected, fix))
    return problems


def _unknown(path: Path, config: dict[str, Any]) -> list[Problem]:
    given = [f"{n}: {json.dumps(v)[:80]}" for n, v in config.items() if n not in KNOWN and v]
    if not given:
        return []
    fix = (
        "update mashup; or take the field out if you know that it does not change what the "
        "weights mean"
    )
    found, expected = "; ".join(given), "fields of PEFT's LoraConfig"
    return [Problem("unknown adapter setting", str(path), found, expected, fix)]
