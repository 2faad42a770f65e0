"""The settings of a PEFT LoRA folder that decide what its weights mean.

Names, types and pattern rules are those of PEFT 0.21
(https://huggingface.co/docs/peft/developer_guides/checkpoint). PEFT checks few of them, so that
``"use_rslora": "false"`` would count as true, and a rank of 8.0 would fail deep inside torch. So
every field is checked here. A field that is not known and that says more than "no" may be a new
kind of LoRA. PEFT only warns and would compute something else, so it is refused here.

All additive kinds of LoRA are read: ``W + s·B·A`` on linear layers, embeddings and expert
parameters, and new values (whole modules, biases, token rows). Adapters whose change is not a sum
with the base are refused by name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from mashup.checkpoint.patterns import check_patterns, matches
from mashup.checkpoint.targets import Targets, read_targets
from mashup.errors import InputError, Problem, raise_all
from mashup.files import read_json

CONFIG = "adapter_config.json"
Bias = Literal["none", "lora_only", "all"]
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class AdapterConfig:
    """The settings of a LoRA adapter that decide what its weights mean.

    Attributes:
        bias: which biases of the base were trained: none, those of LoRA's modules, all.
        lora_bias: whether every B has a bias of its own.
        tokens: ``trainable_token_indices``: ending of an embedding's name to ids of tokens;
            "" is the input embedding.
        tying: ``ensure_weight_tying``: what ties to an adapted embedding is adapted with it.
        targets: ``target_modules``, ``modules_to_save`` and the like.
        raw: the whole JSON object, for those who write it again.
    """

    base: str
    revision: str | None
    rank: int
    alpha: float
    rslora: bool = False
    fan_in_fan_out: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    bias: Bias = "none"
    lora_bias: bool = False
    tokens: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    tying: bool = False
    targets: Targets = field(default_factory=Targets)
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def scale(self, module: str, rank: int) -> float:
        """``s`` in ``W + s·B·A``: alpha/r, or alpha/sqrt(r) for rsLoRA (arXiv 2312.03732)."""
        alpha = _match(self.alpha_pattern, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.rslora else rank)

    def tokens_of(self, module: str) -> tuple[int, ...] | None:
        """Ids of the trained tokens of an embedding (or head), None for any other module."""
        named = (ids for name, ids in self.tokens.items() if module.endswith(name))
        return next(named, None)

    def rank_of(self, module: str) -> int:
        """The rank that the settings give ``module``."""
        return _match(self.rank_pattern, module, self.rank)


def _match(patterns: Mapping[str, _Number], module: str, default: _Number) -> _Number:
    """First pattern that matches the end of the module's name, as PEFT matches it."""
    for pattern, value in patterns.items():
        if matches(_ending(pattern), module):
            return value
    return default


def _ending(pattern: str) -> str:
    return rf"(.*\.)?({pattern})"


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Read ``adapter_config.json``.

    Raises:
        InputError: missing, not JSON, or an adapter that is not plain additive LoRA.
    """
    path = folder / CONFIG
    config = read_json(path)
    if not isinstance(config, dict):
        raise _bad_settings(path, f"a {type(config).__name__}")
    refused = refusal(config)
    if refused:
        raise InputError(Problem("not a plain LoRA", str(path), refused[0], "LoRA", refused[1]))
    raise_all(field_problems(path, config))
    try:
        return _settings(config)
    except KeyError as error:
        raise _bad_settings(path, f"no {error.args[0]!r}") from error
    except (
        AttributeError,
        OverflowError,
        TypeError,
        ValueError,
        RecursionError,
        re.error,
    ) as error:
        raise _bad_settings(path, str(error)) from error


def _settings(config: dict[str, Any]) -> AdapterConfig:
    return AdapterConfig(
        base=(config.get("base_model_name_or_path") or "").strip(),
        revision=config.get("revision"),
        rank=int(config["r"]),
        alpha=float(config["lora_alpha"]),
        rslora=bool(config.get("use_rslora")),
        fan_in_fan_out=bool(config.get("fan_in_fan_out")),
        rank_pattern=_patterns(config.get("rank_pattern"), int),
        alpha_pattern=_patterns(config.get("alpha_pattern"), float),
        bias=_bias(config.get("bias") or "none"),
        lora_bias=bool(config.get("lora_bias")),
        tokens=_tokens(config.get("trainable_token_indices")),
        tying=bool(config.get("ensure_weight_tying")),
        targets=read_targets(config),
        raw=config,
    )


def _bias(value: Any) -> Bias:
    if value not in get_args(Bias):
        raise ValueError(f"bias {str(value)[:40]}")
    return value


def _tokens(value: Any) -> dict[str, tuple[int, ...]]:
    named = value if isinstance(value, dict) else {"": value or ()}
    return {name: tuple(map(int, ids)) for name, ids in named.items() if ids}


def _patterns(patterns: Any, number: type[_Number]) -> dict[str, _Number]:
    """Patterns that can be matched, with numbers as values; anything else raises."""
    given = dict(patterns or {})
    check_patterns(given, _ending)
    return {pattern: number(value) for pattern, value in given.items()}


def _bad_settings(path: Path, found: str) -> InputError:
    fix = "use the adapter_config.json that PEFT saved with these weights"
    expected = "PEFT's LoRA settings, with r and lora_alpha"
    return InputError(Problem("bad adapter settings", str(path), found, expected, fix))


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


_MERGE_FIRST = "merge it into the base with PEFT (merge_and_unload) and use it as a full checkpoint"
_NOT_READ = "leave it out; only additive LoRA is read"

#: Field of adapter_config.json -> (name that people know it by, what to do).
_REFUSED: dict[str, tuple[str, str]] = {
    "use_dora": ("DoRA", _MERGE_FIRST),
    "use_qalora": ("QA-LoRA", _MERGE_FIRST),
    "use_bdlora": ("BD-LoRA", _NOT_READ),
    "kasa_config": ("KaSA", _MERGE_FIRST),
    "monteclora_config": ("MonteCLoRA", _MERGE_FIRST),
    "velora_config": ("VeLoRA", _NOT_READ),
    "arrow_config": ("Arrow router", _NOT_READ),
    "alora_invocation_tokens": ("activated LoRA (aLoRA)", _NOT_READ),
    "layer_replication": ("replicated layers", _NOT_READ),
    "megatron_config": ("Megatron LoRA", _NOT_READ),
}

#: Initialisations that change the base weights; the adapter alone is not W - W0.
_BASE_CHANGING_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga")
_CONVERT = (
    "save it again with save_pretrained(path_initial_model_for_weight_conversion=...), "
    "which turns it into a plain LoRA"
)


def refusal(config: dict[str, Any]) -> tuple[str, str] | None:
    """Name and fix of the first thing in an ``adapter_config.json`` that is not additive LoRA."""
    kind = str(config.get("peft_type") or "").upper()
    if kind != "LORA":
        return (f"PEFT type {kind or '(none)'}", "only LoRA adapters can be merged as deltas")
    for name, (known_as, fix) in _REFUSED.items():
        if config.get(name):
            return known_as, fix
    init = str(config.get("init_lora_weights", True)).lower()
    if init.startswith(_BASE_CHANGING_INITS):
        return f"unconverted {init} initialisation, which changed the base", _CONVERT
    return None
