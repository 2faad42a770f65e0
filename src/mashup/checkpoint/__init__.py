"""Checkpoint: one past training result, read from headers and JSON, never from pickle."""

from mashup.checkpoint.adapter import LoraModule, read_modules
from mashup.checkpoint.config import AdapterConfig, read_adapter_config
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
