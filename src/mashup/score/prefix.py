"""The start that all examples share is run once: its keys and values serve every example.

In a causal model nothing that comes later changes what a token computes, so the system turn
and the instruction of a task need to run only once for each adapter, with the cache that
generation uses (transformers' ``DynamicCache``). What is left of an example attends to it.

For which models and samples that is done, :mod:`mashup.score.sharing` decides.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mashup.model import head_only_at
from mashup.score.batches import Batch


def common_prefix(batches: Sequence[Batch]) -> int:
    """How many tokens all examples begin with, before the first that predicts an answer."""
    if not batches:
        return 0
    length = min(int(batch.positions.int().argmax(1).min()) for batch in batches)
    start = batches[0].ids[:1, :length]
    same = torch.stack([(batch.ids[:, :length] == start).all(0) for batch in batches]).all(0)
    return int(same.int().cumprod(0).sum())


def run_prefix(model: Any, batch: Batch, copies: int = 1) -> Any:
    """Keys and values ``(copies, heads, prefix, head size)`` of every layer, as a cache."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    ids = batch.ids[:1, : batch.prefix].repeat(copies, 1)
    none = torch.zeros_like(ids, dtype=torch.bool)
    device = next(model.parameters()).device
    with head_only_at(model, none):
        model(input_ids=ids.to(device), use_cache=True, **{_cache_name(model): cache})
    return cache


def answer_logits(model: Any, batch: Batch, copies: int = 1, cache: Any = None) -> Tensor:
    """Logits ``(copies · answer tokens, vocabulary)`` in float32, a row for each answer token.

    Args:
        model: computes something of its own on each of ``copies`` copies of the batch.
        batch: without its first ``batch.prefix`` tokens when there is a cache.
        copies: how many.
        cache: what :func:`run_prefix` gave; left as it is.
    """
    device = next(model.parameters()).device
    start = 0 if cache is None else batch.prefix
    ids = batch.ids[:, start:-1].repeat(copies, 1)  # the last token predicts nothing
    mask = batch.mask[:, :-1].repeat(copies, 1)
    positions = batch.positions[:, start:-1].repeat(copies, 1)
    past = {} if cache is None else {_cache_name(model): _widened(cache, len(batch.rows))}
    with head_only_at(model, positions):
        output = model(
            input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=bool(past), **past
        )
    return output.logits[0].float()


def _widened(cache: Any, times: int) -> Any:
    """A copy that holds every row ``times`` times, for one forward pass to write to."""
    wide = copy.deepcopy(cache)
    wide.batch_repeat_interleave(times)
    return wide


def _cache_name(model: Any) -> str:
    """What ``model`` calls its cache: ``cache`` since transformers 5.24, in most models."""
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    is_new = "cache" in inspect.signature(bare.forward).parameters
    return "cache" if is_new else "past_key_values"
