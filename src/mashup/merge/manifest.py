"""``mashup.json`` and the model card of an init: where it comes from, in full."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from mashup.checkpoint.history import MANIFEST
from mashup.merge.methods import Merged
from mashup.merge.parents import Parent

__all__ = ["MANIFEST", "card", "describe", "quality", "versions"]

_PACKAGES = ("mashup-learning", "torch", "transformers", "peft", "safetensors", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe(
    parents: Sequence[Parent],
    merged: Merged,
    base: str,
    settings: dict[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """The manifest of a merge."""
    union = len(merged.delta.modules)
    return {
        "kind": "init",
        "base": base,
        "parents": [_parent(parent, union) for parent in parents],
        **settings,
        "resolved_rank": merged.rank,
        "modules": union,
        "kept_energy": merged.kept_energy,
        "relative_error": merged.relative_error,
        "merge_seconds": seconds,
        "versions": versions(),
    }


def _parent(parent: Parent, union: int) -> dict[str, Any]:
    return {
        "name": parent.checkpoint.name,
        "path": str(parent.checkpoint.path),
        "task": parent.checkpoint.task,
        "digest": parent.digest,
        "weight": parent.weight,
        "coverage": len(parent.delta.modules) / union,
    }


def quality(manifest: dict[str, Any]) -> str:
    """How well a merge holds the exact weighted mean, in words."""
    kept, error = manifest["kept_energy"], manifest["relative_error"]
    energy = "" if kept is None else f"{kept:.2%} of the energy kept, "
    return f"{energy}relative error to the exact weighted mean {error:.2g}"


def card(manifest: dict[str, Any]) -> str:
    """The model card: YAML head as the Hub reads it, then what this is in words."""
    rows = "\n".join(
        f"| {p['name']} | {p['task'] or 'unknown'} | {p['weight']:.4g} | {p['coverage']:.0%} "
        f"| `{p['digest'][:12]}` |"
        for p in manifest["parents"]
    )
    return f"""---
base_model: {manifest["base"] or "unknown"}
library_name: peft
tags: [lora, mashup-learning, merge]
---

# A start for fine-tuning, merged from past checkpoints

Not a finished model: train from it. Merged by Mashup Learning (arXiv 2603.10156).

| parent | task | weight | modules covered | digest |
|---|---|---|---|---|
{rows}

Method `{manifest["method"]}`, rank {manifest["resolved_rank"]} (`{manifest["rank"]}`), factors
`{manifest["factors"]}`, {quality(manifest)}. All details are in `{MANIFEST}`.
"""
