"""``adapter_config.json`` of a merged LoRA.

Keys are those of PEFT (https://huggingface.co/docs/peft/developer_guides/checkpoint).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mashup.checkpoint.config import CONFIG
from mashup.files import read_json
from mashup.merge.lora import LoraPlan, Written
from mashup.merge.parents import Parent


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
        "modules_to_save": _saved_modules(plan),
        "fan_in_fan_out": plan.fan_in_fan_out,
        "lora_dropout": 0.0,
        "bias": _bias(configs, plan),
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


def _saved_modules(plan: LoraPlan) -> list[str] | None:
    """Modules whose weights stand whole in the file; biases of layers are not such."""
    names = {t.name.rsplit(".", 1)[0] for t in plan.saved if not _is_layer_bias(plan, t.name)}
    return sorted(names) or None


def _is_layer_bias(plan: LoraPlan, name: str) -> bool:
    """A bias whose weight is not saved beside it belongs to ``bias="all"``."""
    weight = f"{name.rsplit('.', 1)[0]}.weight"
    return name.endswith(".bias") and weight not in {tensors.name for tensors in plan.saved}


def _bias(configs: Sequence[dict[str, Any]], plan: LoraPlan) -> str:
    if not any(_is_layer_bias(plan, tensors.name) for tensors in plan.saved):
        return "none"
    kinds = {config.get("bias", "none") for config in configs} - {"none"}
    return kinds.pop() if len(kinds) == 1 else "all"
