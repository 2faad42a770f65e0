"""What a merge would read, write and hold in memory, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mashup._merge.full import LIBRARIES, FullPlan
from mashup._merge.merge import options_of, prepare_merge
from mashup._merge.methods import Settings
from mashup._merge.methods.greedy_soup import GREEDY_SOUP
from mashup._merge.parents import Parent


def cost_of(parents: Sequence[str | Path], **given: Any) -> dict[str, Any]:
    """Bytes read and written, and an upper estimate of peak memory in bytes.

    Args:
        parents: checkpoint folders.
        given: arguments of :func:`mashup.merge`. A greedy soup counts as the mean of all.

    Raises:
        InputError, UsageError: as :func:`mashup.merge`.
    """
    numbers = {n: given.pop(n) for n in ("scale", "density", "gamma", "epsilon", "seed")}
    method, weights = given.pop("method"), given.pop("weights")
    if method == GREEDY_SOUP.name:
        method = "linear"
    if method == GREEDY_SOUP.name or weights in ("loss", "newton"):
        weights = "uniform"
    base = given.pop("base")
    prepared = prepare_merge(
        parents, method, weights, Settings(**numbers), options_of(**given), base
    )
    plan = prepared.plan
    if isinstance(plan, FullPlan):
        return {
            "output_kind": "full",
            "tensors": len(plan.tensors) + len(plan.copied),
            "files": len(plan.shards),
            "bytes_read": plan.bytes_read(),
            "bytes_written": plan.bytes_written,
            "peak_memory": plan.peak_memory(prepared.recipe),
        }
    read = sum(map(_bytes, prepared.parents))
    return {
        "output_kind": "lora",
        "tensors": 2 * len(plan.modules) + len(plan.saved),
        "files": 1,
        "bytes_read": read,
        "bytes_written": plan.bytes_written,
        "peak_memory": LIBRARIES + 3 * read,
    }


def _bytes(parent: Parent) -> int:
    return parent.checkpoint.bytes
