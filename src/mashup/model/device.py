"""Where and in which precision to compute on this machine."""

from __future__ import annotations

import os

import torch


def pick_device() -> torch.device:
    """CUDA, else MPS, else the CPU; of several processes each its own CUDA device."""
    if torch.cuda.is_available():
        own = os.environ.get("LOCAL_RANK")
        return torch.device("cuda" if own is None else f"cuda:{own}")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def pick_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes in it natively, float32 elsewhere."""
    native = {
        "cuda": lambda: torch.cuda.get_device_capability(device)[0] >= 8,
        "cpu": cpu_has_bfloat16,
    }.get(device.type, lambda: False)
    return torch.bfloat16 if native() else torch.float32


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 natively (AVX512-BF16, AMX or Arm's BF16)."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)


def parse_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto``, ``bfloat16``, ``float16`` or ``float32`` as torch's type."""
    return pick_dtype(device) if name == "auto" else getattr(torch, name)
