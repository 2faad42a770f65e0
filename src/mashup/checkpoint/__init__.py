"""Checkpoint: one past training result, read from headers and JSON, never from pickle."""

from mashup.checkpoint.adapter import AdapterConfig, LoraModule, read_adapter_config, read_modules
from mashup.checkpoint.identity import canonical_name, same_base
from mashup.checkpoint.read import Checkpoint, read_checkpoint

__all__ = [
    "AdapterConfig",
    "Checkpoint",
    "LoraModule",
    "canonical_name",
    "read_adapter_config",
    "read_checkpoint",
    "read_modules",
    "same_base",
]
