"""Adapters whose change to the base is no sum with it, and the words to refuse them by name.

Read are all additive kinds of LoRA: ``W + s·B·A`` on linear layers, embeddings and expert
parameters, and new values beside it (whole modules, biases, token rows). The fields are those
of PEFT's ``LoraConfig`` (PEFT 0.21). A field that is absent or has its harmless value is fine;
anything else would be merged wrongly, so it is refused.
"""

from __future__ import annotations

from typing import Any

_MERGE_FIRST = "merge it into the base with PEFT (merge_and_unload) and use it as a full checkpoint"
_NOT_READ = "leave it out; only additive LoRA is read"

#: Field of adapter_config.json -> (name that people know it by, what to do).
_FIELDS: dict[str, tuple[str, str]] = {
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
    for field, (name, fix) in _FIELDS.items():
        if config.get(field):
            return name, fix
    init = str(config.get("init_lora_weights", True)).lower()
    if init.startswith(_BASE_CHANGING_INITS):
        return f"unconverted {init} initialisation, which changed the base", _CONVERT
    return None
