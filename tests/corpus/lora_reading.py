"""What a spoiled LoRA folder means: PEFT's own types, and ``s·B·A`` in float64.

Nothing of ``mashup`` is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from corpus.reading import Wrong, read_json, read_tensors
from corpus.seeds import ADAPTER, BASE, LORA

KEY = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.[^.]+)?\.weight")
#: Kinds of LoRA that are no sum with the base, or that a reader may refuse as not read yet.
VARIANTS = (
    *("use_dora", "use_qalora", "use_bdlora", "kasa_config", "monteclora_config", "arrow_config"),
    *("velora_config", "alora_invocation_tokens", "layer_replication", "megatron_config"),
)
#: A reader may refuse these, or read the rest as if they were not there.
MAYBE = (
    *("lora_bias", "modules_to_save", "trainable_token_indices", "target_parameters"),
    *("layers_to_transform", "layers_pattern", "exclude_modules"),
    *("ensure_weight_tying", "eva_config", "loftq_config", "runtime_config"),
)
#: Characters of a pattern beyond which a reader must not try to compile it: it takes seconds.
LONG = 10_000
_CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)


@cache
def _fields() -> dict[str, TypeAdapter]:
    """PEFT's own annotations, as strict types; what is a class of its own may be any dict."""
    from dataclasses import fields
    from typing import get_type_hints

    from peft import LoraConfig

    hints = get_type_hints(LoraConfig)
    known = {}
    for field in fields(LoraConfig):
        hint = dict | None if "Config" in str(hints[field.name]) else hints[field.name]
        hint = float if field.name == "lora_alpha" else hint
        known[field.name] = TypeAdapter(hint, config=_STRICT)
    known["task_type"] = known["peft_type"] = known["peft_version"]
    known["init_lora_weights"] = TypeAdapter(bool | str, config=_STRICT)
    return known


def read_settings(folder: Path) -> dict[str, Any]:
    """``adapter_config.json`` as PEFT's dataclass types it."""
    config = read_json(folder / ADAPTER)
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise Wrong("no LoRA")
    for name, value in config.items():
        known = _fields().get(name)
        if (known is None or name in VARIANTS) and value:
            raise Wrong(f"{name} is unknown, or another kind of LoRA")
        if known is None or value is None:
            continue
        try:
            known.validate_python(value)
        except (ValidationError, RecursionError) as error:
            raise Wrong(f"{name}: {str(value)[:80]}") from error
    _check_values(config)
    return config


def _check_values(config: Mapping[str, Any]) -> None:
    from peft import TaskType

    tasks = [None, *(task.value for task in TaskType)]
    if config.get("task_type") not in tasks or not 0 <= (config.get("lora_dropout") or 0) <= 1:
        raise Wrong("task_type or lora_dropout")
    if not isinstance(config.get("r"), int) or config["r"] < 1 or config.get("lora_alpha") is None:
        raise Wrong("r or lora_alpha")
    name = (config.get("base_model_name_or_path") or "").strip()
    if name.rsplit("/", 1)[-1].lower() != BASE.rsplit("/", 1)[-1]:
        raise Wrong("another base")
    if str(config.get("init_lora_weights")).startswith(_CHANGED_BASE):
        raise Wrong("the base was changed")
    both = ("rank_pattern", "alpha_pattern")
    if any(len(pattern) > LONG for name in both for pattern in config.get(name) or {}):
        raise Wrong("a pattern without end")
    number = TypeAdapter(float, config=_STRICT)
    try:
        for pattern, value in (config.get("rank_pattern") or {}).items():
            re.compile(pattern)
            if type(value) is not int or value < 1:
                raise Wrong(f"rank {value}")
        for pattern, value in (config.get("alpha_pattern") or {}).items():
            re.compile(pattern)
            number.validate_python(value)
    except (re.error, OverflowError, RecursionError, ValidationError) as error:
        raise Wrong("patterns") from error


def is_debatable(config: Mapping[str, Any]) -> bool:
    """Whether a reader may refuse it although it has a value."""
    targets = config.get("target_modules")
    odd = targets is not None and sorted(targets) != ["q_proj", "up_proj"]
    said = config.get("bias", "none") != "none"
    return odd or said or any(config.get(name) for name in MAYBE)


def read_lora(folder: Path) -> tuple[dict[str, Tensor], bool]:
    """Base tensor to ``s·B·A`` in float64, and whether a reader may refuse it."""
    config = read_settings(folder)
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, tensor in read_tensors(folder / LORA).items():
        match = KEY.fullmatch(key)
        if not match:
            raise Wrong(f"{key} is no LoRA")
        pairs.setdefault(match[1], {})[match[2]] = tensor.double()
    deltas = {n: _delta(n, pair, config) for n, pair in pairs.items()}
    if not any(delta.any() for delta in deltas.values()):
        raise Wrong("changes nothing")
    return deltas, is_debatable(config)


def _delta(name: str, pair: Mapping[str, Tensor], config: Mapping[str, Any]) -> Tensor:
    if set(pair) != {"A", "B"}:
        raise Wrong(f"{name}: a half")
    A, B = pair["A"], pair["B"]
    if A.dim() != 2 or B.dim() != 2 or A.shape[0] != B.shape[1]:
        raise Wrong(f"{name}: shapes")
    if A.shape[0] != _of(config.get("rank_pattern"), name, config["r"]):
        raise Wrong(f"{name}: rank")
    alpha = _of(config.get("alpha_pattern"), name, config["lora_alpha"])
    root = A.shape[0] ** 0.5 if config.get("use_rslora") else A.shape[0]
    return alpha / root * (B @ A)  # PEFT ignores fan_in_fan_out on linear layers


def _of(patterns: Mapping[str, Any] | None, name: str, default: Any) -> Any:
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return default


def unloadable(folder: Path) -> Iterator[str]:
    """Modules of a written adapter that PEFT would drop."""
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    config = LoraConfig(**read_json(folder / ADAPTER))
    for key in read_tensors(folder / LORA):
        match = KEY.fullmatch(key)
        if match and not check_target_module_exists(config, match[1]):
            yield f"PEFT would drop {match[1]}"
