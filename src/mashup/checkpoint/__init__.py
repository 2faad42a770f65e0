"""Checkpoint: one past training result, read from headers and JSON, never from pickle."""

from mashup.checkpoint.adapter import Adapter, LoraModule, laid_out, read_adapter
from mashup.checkpoint.config import AdapterConfig, read_adapter_config
from mashup.checkpoint.fit import FOREIGN, BaseShapes, Fit, fit
from mashup.checkpoint.full import read_tensors
from mashup.checkpoint.identity import canonical_name, same_base
from mashup.checkpoint.locate import check_base, locate
from mashup.checkpoint.read import Checkpoint, Opened, open_checkpoint, read_checkpoint
from mashup.checkpoint.safetensors import Stored, read_stored

__all__ = [
    "FOREIGN",
    "Adapter",
    "AdapterConfig",
    "BaseShapes",
    "Checkpoint",
    "Fit",
    "LoraModule",
    "Opened",
    "Stored",
    "canonical_name",
    "check_base",
    "fit",
    "laid_out",
    "locate",
    "open_checkpoint",
    "read_adapter",
    "read_adapter_config",
    "read_checkpoint",
    "read_stored",
    "read_tensors",
    "same_base",
]
