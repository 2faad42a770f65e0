"""``adapter_config.json`` of a merged LoRA.

Keys are those of PEFT (https://huggingface.co/docs/peft/developer_guides/checkpoint).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mashup._merge.lora import Written
from mashup._merge.modules import LoraPlan
from mashup._merge.parents import Parent
from mashup.checkpoint.config import CONFIG
from mashup.files import read_json


def peft_config(
    parents: Sequence[Parent], plan: LoraPlan, written: Written, base: str
) -> dict[str, Any]:
    """Settings with which PEFT computes what was written."""
    paths = [parent.checkpoint.path for parent in parents if not parent.is_full]
    configs = [read_json(path / CONFIG) for path in paths]
    complete = len(configs) == len(parents)
    first = configs[0] if configs else {}
    alphas = {m.name: m.scale * written.sizes[m.name] for m in plan.modules}
    alpha = max(alphas.values())
    return {
        "peft_type": "LORA",
        "task_type": first.get("task_type") or "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": first.get("revision"),
        "r": written.rank,
        "lora_alpha": alpha,
        "rank_pattern": {n: size for n, size in written.sizes.items() if size != written.rank},
        "alpha_pattern": {n: value for n, value in alphas.items() if value != alpha},
        "target_modules": _targets(configs, list(written.sizes), complete=complete),
        "modules_to_save": _union(configs, "modules_to_save"),
        "target_parameters": _union(configs, "target_parameters"),
        "ensure_weight_tying": any(config.get("ensure_weight_tying") for config in configs),
        "fan_in_fan_out": plan.fan_in_fan_out,
        "lora_dropout": 0.0,
        "bias": _bias(configs),
        "use_rslora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _targets(configs: Sequence[dict[str, Any]], modules: list[str], *, complete: bool) -> list[str]:
    """The union of the parents' suffixes where those name their modules, else full names."""
    filters = ("layers_to_transform", "layers_pattern", "exclude_modules")
    plain = complete and all(
        isinstance(config.get("target_modules"), list)
        and not any(config.get(one) not in (None, []) for one in filters)
        for config in configs
    )
    if not plain:
        return modules
    return sorted({target for config in configs for target in config["target_modules"]})


def _union(configs: Sequence[dict[str, Any]], key: str) -> list[str] | None:
    """All names that any parent gives; None for none, as PEFT writes it."""
    names = {name for config in configs for name in config.get(key) or ()}
    return sorted(names) or None


def _bias(configs: Sequence[dict[str, Any]]) -> str:
    """``all`` where parents trained different biases: PEFT then loads those that are there."""
    kinds = {config.get("bias") or "none" for config in configs} - {"none"}
    return "none" if not kinds else kinds.pop() if len(kinds) == 1 else "all"
