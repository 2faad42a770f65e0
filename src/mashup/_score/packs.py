"""Evaluate what several checkpoints miss alike in one pass, where the device gains by it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mashup._score.candidates import Candidate
from mashup._score.packing import evaluate_packed, pack_size
from mashup.delta import Delta
from mashup.errors import InputError

if TYPE_CHECKING:
    from mashup._score.scorer import Scorer

#: Checkpoints from which a trial of pack sizes pays for itself.
WORTH = 16
#: Devices on which one adapter at a time is fastest. Two cores with SmolLM2-135M and 8 examples:
#: 4 adapters in a pass took 0.88 and 0.82 of the time of one after the other, 2 took 0.93 and 0.89.
ALONE = ("cpu",)


def packs(
    scorer: Scorer, candidates: Sequence[Candidate], count: int
) -> Iterator[Sequence[Candidate]]:
    """The checkpoints in parts, each measured in one pass before it is handed over.

    What cannot be packed is handed over as it is. Checkpoints that cannot be read are left to
    whoever asks for them next, who tells the reason.
    """
    size = _size(scorer, candidates, count)
    for start in range(0, len(candidates), size):
        some = candidates[start : start + size]
        if size > 1:
            _measure(scorer, some, count)
        yield some


def _size(scorer: Scorer, candidates: Sequence[Candidate], count: int) -> int:
    apart = scorer.answers is not None and not scorer.is_tree
    if len(candidates) < WORTH or scorer.base.device.type in ALONE or apart:
        return 1
    for one in candidates:
        rows, delta = scorer.missing(one, count), _read(scorer, one)
        if rows and delta:
            return pack_size(scorer.base.model, delta, scorer.batches(rows))
    return 1


def _measure(scorer: Scorer, some: Sequence[Candidate], count: int) -> None:
    start = time.perf_counter()
    rows = scorer.missing(some[0], count)
    alike = [one for one in some if rows and scorer.missing(one, count) == rows]
    read = [(one, delta) for one in alike if (delta := _read(scorer, one))]
    if len(read) < 2:
        return
    deltas = [delta for _, delta in read]
    answers = scorer.answers.of(rows) if scorer.answers else None
    found = evaluate_packed(scorer.base.model, deltas, scorer.batches(rows), answers)
    seconds = (time.perf_counter() - start) / len(read)
    for (one, _), result in zip(read, found, strict=True):
        with contextlib.suppress(InputError):  # changed meanwhile: whoever asks next is told so
            scorer.keep(one, rows, result, seconds)


def _read(scorer: Scorer, one: Candidate) -> Delta | None:
    try:
        return scorer.read(one)
    except InputError:
        return None
