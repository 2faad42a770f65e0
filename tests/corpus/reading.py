"""Files read by others than ``mashup``: Python's json, the safetensors library.

A checkpoint that these refuse, or whose meaning they would have to guess, is :class:`Wrong`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


#: Numbers beyond which a product of factors may overflow float32.
LARGE = 1e37


class Wrong(Exception):  # noqa: N818 - it is an answer
    """The checkpoint must be refused."""


def read_json(path: Path) -> Any:
    if not path.is_file():  # a pipe would be waited for
        raise Wrong(f"no file {path.name}")
    try:
        text = path.read_bytes().decode("utf-8")
        value = json.loads(text, object_pairs_hook=_once)
        json.dumps(value, ensure_ascii=False).encode()
    except (OSError, ValueError, RecursionError) as error:
        raise Wrong(str(error)[:200]) from error
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name twice")
    return dict(pairs)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors by the reference implementation, which must be finite floats."""
    if not path.is_file():
        raise Wrong("no file")
    header = path.read_bytes()[8:]
    try:
        tensors = load_file(path)
        length = int.from_bytes(path.read_bytes()[:8], "little")
        json.loads(header[:length].decode(), object_pairs_hook=_once)
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError) as error:
        raise Wrong(str(error)[:200]) from error
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS or tensor.numel() == 0:
            raise Wrong(f"{name}: {tensor.dtype} {tuple(tensor.shape)}")
        if not torch.isfinite(tensor).all():
            raise Wrong(f"{name}: not finite")
    return tensors
