"""Do whole models compute in the same way? Equal shapes do not say so.

Two models may have tensors of the same shapes and still split them into other heads, rotate
by another base or use another activation; their mean is then of nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mashup.checkpoint.identity import read_config
from mashup.errors import Problem

#: Settings of ``config.json`` that change what the same weights compute, under the names that
#: they have in every version of transformers. Only what both configs say is compared.
_COMPUTES = (
    *("model_type", "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act"),
    *("hidden_activation", "activation_function", "rms_norm_eps", "layer_norm_epsilon"),
    *("sliding_window", "rope_theta", "attn_logit_softcapping", "final_logit_softcapping"),
    *("query_pre_attn_scalar", "num_experts_per_tok", "partial_rotary_factor"),
    *("rope_local_base_freq", "rope_type", "factor", "full_attention", "sliding_attention"),
)
#: Where the settings of rotary embeddings lie: in transformers 5, and before it.
_ROPE = ("rope_parameters", "rope_scaling")


def architecture_problem(folder: Path, reference: Path) -> Problem | None:
    """The problem of a whole model whose ``config.json`` computes otherwise than another's."""
    return computing_problem(folder, read_config(folder), read_config(reference))


def computing_problem(
    folder: Path, config: Mapping[str, Any], reference: Mapping[str, Any]
) -> Problem | None:
    """:func:`architecture_problem` of two configs that have been read."""
    own, expected = _settings(config), _settings(reference)
    different = [n for n in _COMPUTES if n in own and n in expected and own[n] != expected[n]]
    return _problem(folder, different, own, expected) if different else None


def _problem(
    folder: Path, different: Sequence[str], own: dict[str, Any], expected: dict[str, Any]
) -> Problem:
    found = ", ".join(f"{name} {own[name]}" for name in different)
    wanted = ", ".join(f"{name} {expected[name]}" for name in different)
    fix = "give models of one architecture, or pass `accept_base` if the difference is meant"
    return Problem("models compute differently", str(folder), found, wanted, fix)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the language model, those that are set."""
    inner = config.get("text_config")
    both = dict(config) | (inner if isinstance(inner, dict) else {})
    for part in _ROPE:
        both |= both[part] if isinstance(both.get(part), dict) else {}
    return {name: value for name, value in both.items() if value is not None}
