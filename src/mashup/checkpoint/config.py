"""The settings of a PEFT LoRA folder that decide what its weights mean.

Key names and pattern rules are those of PEFT
(https://huggingface.co/docs/peft/developer_guides/checkpoint).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from mashup.checkpoint.fields import field_problems
from mashup.checkpoint.patterns import check_patterns, matches
from mashup.checkpoint.refusals import refusal
from mashup.checkpoint.targets import Targets, read_targets
from mashup.errors import InputError, Problem, raise_all
from mashup.files import read_json

CONFIG = "adapter_config.json"
Bias = Literal["none", "lora_only", "all"]
_UNUSABLE = (AttributeError, OverflowError, RecursionError, TypeError, ValueError)
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
