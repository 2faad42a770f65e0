"""Torchvision for tests, also where its compiled operators do not fit this build of PyTorch."""

from __future__ import annotations

import importlib
import importlib.util

import torch

_POOLS = ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
_OPERATORS = ("nms", "qnms", *_POOLS, *(f"_{name}_backward" for name in _POOLS))


def load_torchvision() -> torch.library.Library | None:
    """Import torchvision if it is there.

    Its wheel on PyPI is for CUDA builds of PyTorch. Processors use its transforms, which are plain
    Python: it is enough that its operators for detection have names.

    Returns:
        What holds these names, where they had to be given; keep it.
    """
    if not importlib.util.find_spec("torchvision"):
        return None
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        named = torch.library.Library("torchvision", "FRAGMENT")
        for name in _OPERATORS:
            named.define(f"{name}(Tensor x) -> Tensor")
        importlib.import_module("torchvision")
        return named
    return None
