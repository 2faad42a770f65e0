"""Several adapters in one pass over the same examples, where that is faster.

An accelerator with few tokens at a time waits for its next kernel, and then more adapters cost
nothing. A CPU is busy with few tokens, and gains nothing. So the size of a pack is timed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from mashup.delta import Delta
from mashup.evaluate.answers import AnswerSet, evaluate_answers
from mashup.evaluate.batches import Batch
from mashup.evaluate.evaluate import Evaluation, evaluate_copies
from mashup.model import applied
from mashup.model.together import MixedCopiesError, applied_together, is_plain

MOST = 8  # adapters in one pass
_TOKENS = 16_384  # of one pass, all copies together
_GAIN = 0.9  # a larger pack must cost at most this share of the seconds per adapter
_RUNS = 2  # of each size; the faster one counts


def evaluate_packed(
    model: Any,
    deltas: Sequence[Delta],
    batches: Sequence[Batch],
    answers: AnswerSet | None = None,
) -> list[Evaluation]:
    """What :func:`mashup.evaluate.evaluate` gives with each delta on, up to rounding.

    All plain LoRAs of linear layers run in one pass over ``len(deltas)`` copies of each batch.
    The others run alone, as do all on a model that mixes the copies (experts, an adapted head).

    Args:
        model: the base.
        deltas: as many as fit in memory together (:func:`pack_size`).
        batches: of one sample; a shared prefix runs once for each delta.
        answers: the finite set of answers of its examples, to give each a probability.

    Raises:
        InputError: a delta names a module or tensor that the base does not have.
    """
    places = [place for place, delta in enumerate(deltas) if is_plain(model, delta)]
    packed = _together(model, [deltas[place] for place in places], batches, answers)
    found = dict(zip(places, packed, strict=False))
    return [
        found.get(n) or _alone(model, delta, batches, answers) for n, delta in enumerate(deltas)
    ]


def _together(
    model: Any, deltas: Sequence[Delta], batches: Sequence[Batch], answers: AnswerSet | None
) -> Sequence[Evaluation]:
    """One evaluation for each delta; none at all when they cannot be packed."""
    if len(deltas) < 2:
        return ()
    try:
        with applied_together(model, deltas):
            return _evaluated(model, batches, answers, len(deltas))
    except MixedCopiesError:
        return ()


def _alone(
    model: Any, delta: Delta, batches: Sequence[Batch], answers: AnswerSet | None
) -> Evaluation:
    with applied(model, delta):
        return _evaluated(model, batches, answers, 1)[0]


def _evaluated(
    model: Any, batches: Sequence[Batch], answers: AnswerSet | None, copies: int
) -> list[Evaluation]:
    if answers:
        return evaluate_answers(model, batches, answers, copies=copies)
    return evaluate_copies(model, batches, copies)


def pack_size(model: Any, delta: Delta, batches: Sequence[Batch], *, most: int = MOST) -> int:
    """How many adapters like ``delta`` to evaluate at once on this machine: 1, 2, 4, ... ``most``.

    Timed on the first batch, doubling as long as an adapter becomes a tenth cheaper. Where
    packing does not pay, this costs six passes over one batch. The size changes losses by
    rounding only.
    """
    if not batches or not is_plain(model, delta):
        return 1
    first = (replace(batches[0], rows=torch.arange(len(batches[0].rows))),)
    most = min(most, _TOKENS // first[0].ids.numel())
    best, seconds = 1, _seconds(model, delta, first, 1)
    while best * 2 <= most:
        more = _seconds(model, delta, first, best * 2)
        if more > _GAIN * seconds:
            break
        best, seconds = best * 2, more
    return best


def _seconds(model: Any, delta: Delta, batches: Sequence[Batch], size: int) -> float:
    """Seconds for each of ``size`` adapters."""
    runs = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        evaluate_packed(model, [delta] * size, batches)
        runs.append(time.perf_counter() - start)
    return min(runs) / size
