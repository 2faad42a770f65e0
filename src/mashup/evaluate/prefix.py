"""The start that all examples share is run once: its keys and values serve every example.

In a causal model nothing that comes later changes what a token computes, so the system turn
and the instruction of a task need to run only once for each adapter, with the cache that
generation uses (transformers' ``DynamicCache``). What is left of an example attends to it.

It is done where it is right and where it pays. Right: by a rule, that every layer keeps all keys
and values of the prefix, and then by a trial, that the model computes the same in both ways on
the longest examples.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mashup.errors import InputError, Problem
from mashup.evaluate.batches import Batch
from mashup.evaluate.head import head_only_at


def common_prefix(batches: Sequence[Batch]) -> int:
    """How many tokens all examples begin with, before the first that predicts an answer."""
    if not batches or any(batch.seen for batch in batches):
        return 0  # a prefix with pictures is not run apart
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


def run_prompt(model: Any, batch: Batch) -> tuple[Tensor, Any]:
    """Logits ``(1, 1, vocabulary)`` in float32 after a batch of one row, and its cache."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    device = next(model.parameters()).device
    last = torch.zeros_like(batch.ids, dtype=torch.bool)
    last[:, -1] = True
    seen = _seen(model, batch, batch.ids.shape[1], device)
    with head_only_at(model, last), _naming(batch):
        output = model(
            input_ids=batch.ids.to(device), attention_mask=batch.mask.to(device), use_cache=True,
            **{_cache_name(model): cache}, **seen,
        )  # fmt: skip
    return output.logits.float(), cache


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
    past = cached(model, cache, len(batch.rows)) | _seen(model, batch, ids.shape[1], device)
    with head_only_at(model, positions), _naming(batch):
        output = model(
            input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=cache is not None,
            **past,
        )  # fmt: skip
    if batch.seen:
        forget_pictures(model)
    return output.logits[0].float()


def forget_pictures(model: Any) -> None:
    """Remove what Qwen's models remember of the last row with pictures.

    They add it to the positions of whatever goes on from a cache, also of a row of text.
    """
    for module in model.modules():
        if getattr(module, "rope_deltas", None) is not None:
            module.rope_deltas = None


def _seen(model: Any, batch: Batch, length: int, device: torch.device) -> dict[str, Tensor]:
    """The inputs of an example with pictures, in the model's precision."""
    if batch.seen is None:
        return {}
    inputs = batch.seen.inputs(length)
    dtype = model.dtype
    return {
        name: value.to(device, dtype if value.is_floating_point() else value.dtype)
        for name, value in inputs.items()
    }


@contextlib.contextmanager
def _naming(batch: Batch) -> Iterator[None]:
    """Name the row whose pictures a model cannot take, as with a processor of another model.

    Raises:
        InputError: it cannot.
    """
    try:
        yield
    except (ValueError, IndexError, TypeError, RuntimeError) as error:
        if batch.seen is None or isinstance(error, torch.OutOfMemoryError):
            raise
        found = " ".join(f"the base fails: {type(error).__name__}: {error}".split())
        fix = "check that processor and base are of one model"
        raise InputError(
            Problem("cannot use row", batch.seen.where, found[:400], fix=fix)
        ) from error


def cached(model: Any, cache: Any, rows: int) -> dict[str, Any]:
    """The keyword of one forward pass of ``rows`` examples that go on from ``cache``, if any.

    The pass writes to its cache, so it gets a copy with every row of the prefix ``rows`` times.
    """
    if cache is None:
        return {}
    wide = copy.copy(cache)
    wide.layers = [copy.copy(layer) for layer in cache.layers]  # the same tensors, and gradients
    wide.batch_repeat_interleave(rows)
    return {_cache_name(model): wide}


def _cache_name(model: Any) -> str:
    """What ``model`` calls its cache: ``cache`` since transformers 5.24, in most models."""
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    is_new = "cache" in inspect.signature(bare.forward).parameters
    return "cache" if is_new else "past_key_values"


#: Least share of a sample's tokens that must be saved.
_WORTH = 0.1
#: What one more pass costs, in tokens. A small batch leaves an accelerator waiting for its next
#: kernel, so there a pass for the prefix alone costs about as much as one for a full batch.
PASS = {"cpu": 64, "others": 2048}


def share_prefix(model: Any, batches: Sequence[Batch]) -> tuple[Batch, ...]:
    """The batches, set to run what all examples begin with only once.

    Unchanged where it would not pay, or where ``model`` does not compute the same that way
    (by the rule of :func:`holds_prefix` and a trial on the longest examples).

    Args:
        model: a base, or one with an adapter. It may be evaluated with any other adapter later:
            that changes values, not the way in which they are computed.
        batches: all batches of a sample, none with a prefix yet.
    """
    device = next(model.parameters()).device.type
    return with_prefix(batches, shared_prefix(model, batches), device)


def shared_prefix(model: Any, batches: Sequence[Batch]) -> int:
    """Tokens that all examples begin with and that ``model`` can run once; 0 for none.

    By the rule of :func:`holds_prefix`, and a trial on the longest examples where it would pay.
    """
    prefix = common_prefix(batches)
    device = next(model.parameters()).device.type
    if not pays(batches, prefix, device) or not holds_prefix(model, prefix):
        return 0
    return prefix if agrees(model, replace(batches[0], prefix=prefix)) else 0


def with_prefix(batches: Sequence[Batch], prefix: int, device: str) -> tuple[Batch, ...]:
    """Batches set to run ``prefix`` tokens once, where that pays for them."""
    if not pays(batches, prefix, device):
        return tuple(batches)
    return tuple(replace(batch, prefix=prefix) for batch in batches)


def pays(batches: Sequence[Batch], prefix: int, device: str) -> bool:
    """Whether running the first ``prefix`` tokens once saves more than one more pass costs."""
    examples = sum(len(batch.rows) for batch in batches)
    tokens = sum(int(batch.mask.sum()) for batch in batches)
    saved = prefix * (examples - 1) - PASS.get(device, PASS["others"])
    return saved >= _WORTH * tokens


def holds_prefix(model: Any, prefix: int) -> bool:
    """Whether every layer of ``model`` keeps all keys and values of ``prefix`` tokens.

    That is so for attention to everything, and for a sliding window that is longer. Recurrent,
    hybrid, chunked, compressed and shared caches are left out, also where they might work.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    try:
        layers = DynamicCache(config=model.config).layers
    except Exception:  # of a configuration that transformers' cache was not made for
        return False
    windows = [one.sliding_window for one in layers if type(one) is DynamicSlidingWindowLayer]
    known = all(type(one) in (DynamicLayer, DynamicSlidingWindowLayer) for one in layers)
    return bool(layers) and known and prefix < min(windows, default=prefix + 1)


_TRIED = 4  # examples
#: How far apart the two ways may be, relative, over the model's precision: 30 layers of
#: SmolLM2-135M in bfloat16 are 5 to 7 apart on the eight tasks of ``textcls``.
_ROUNDINGS = 16
#: The same in absolute terms, for float32: its sums, and TF32's products, are coarser than it.
_ROUNDING = 1e-3


@torch.no_grad()
def agrees(model: Any, batch: Batch) -> bool:
    """Whether ``model`` computes the same with the prefix apart, on a few of the longest examples.

    The logits may differ as much as rounding makes them. A trial that could not tell, since
    logits without any prefix are about as close, does not count as agreement.
    """
    was_training = model.training
    model.eval()
    try:
        shared, without = _differences(model, _first(batch, _TRIED))
    except Exception:  # whatever a model raises that cannot be used this way
        return False
    finally:
        model.train(was_training)
    allowed = max(_ROUNDINGS * torch.finfo(model.dtype).eps, _ROUNDING)
    return shared <= allowed < without / 2


def _differences(model: Any, batch: Batch) -> tuple[float, float]:
    """Relative distance of logits from a plain pass: with the prefix apart, and without it."""
    plain = answer_logits(model, batch)
    cache = run_prefix(model, batch)
    if any(layer.get_seq_length() != batch.prefix for layer in cache.layers):
        raise ValueError("a layer that does not keep the prefix")
    shared = answer_logits(model, batch, cache=cache)
    without = answer_logits(model, _cut(batch, slice(None), slice(batch.prefix, None)))
    return _distance(shared, plain), _distance(without, plain)


def _distance(logits: Tensor, plain: Tensor) -> float:
    return float((logits - plain).norm() / (plain - plain.mean(-1, keepdim=True)).norm())


def _first(batch: Batch, count: int) -> Batch:
    """The first and longest examples of a batch."""
    return replace(_cut(batch, slice(count), slice(None)), prefix=batch.prefix)


def _cut(batch: Batch, rows: slice, columns: slice) -> Batch:
    ids, mask, answer = (t[rows, columns] for t in (batch.ids, batch.mask, batch.answer))
    return Batch(batch.rows[rows], ids, mask, answer)
