"""Every answer of a finite set after a prompt with pictures, which is run once.

A tree of answers needs masks and positions of our own, and those of a row with pictures are the
model's (Qwen2-VL counts in three directions, Gemma-3 lets the tokens of a picture see each other).
So the prompt is run as generation runs it, and the answers go on from its cache, a row each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mashup.evaluate.answers import AnswerSet, evaluate_apart
from mashup.evaluate.batches import Batch, make_batches
from mashup.evaluate.evaluate import Evaluation, evaluating
from mashup.evaluate.head import head_only_at
from mashup.evaluate.prefix import cached, forget_pictures, run_prompt
from mashup.progress import NO_BAR, Advance
from mashup.task import Tokens

_TRIED = 2  # rows
#: How far apart the log-probabilities of the two ways may be, relative: in units of the model's
#: precision, and at least for float32, whose sums are coarser than it.
_ROUNDINGS, _LEAST = 2.0, 1e-4


@torch.no_grad()
def evaluate_continued(
    model: Any,
    tokens: Sequence[Tokens],
    answers: AnswerSet,
    pad_id: int,
    vocabulary: int,
    advance: Advance = NO_BAR,
) -> Evaluation:
    """What :func:`mashup.evaluate.answers.evaluate_apart` gives, for rows with pictures.

    Args:
        model: for which :func:`continues` was true.
        tokens: of the sample.
        answers: of the same examples.
        pad_id, vocabulary: of the base.
        advance: called after a row.
    """
    prompts = [_prompt(one) for one in tokens]
    batches = make_batches(prompts, pad_id, vocabulary)  # a row each
    logs = np.zeros((len(tokens), len(answers)))
    hits = np.zeros(logs.shape, bool)
    with evaluating(model):
        for batch in batches:
            row = int(batch.rows[0])
            logs[row], hits[row] = _row(model, batch, answers.tokens, pad_id)
            advance()
    lengths = np.array([len(one) for one in answers.tokens], np.int64)[answers.labels]
    own = np.arange(len(tokens)), answers.labels
    return Evaluation(-logs[own], lengths, hits[own], logs, answers.labels)


def continues(
    model: Any, tokens: Sequence[Tokens], answers: AnswerSet, pad_id: int, vocabulary: int
) -> bool:
    """Whether rows have pictures and ``model`` gives answers after a cache as it gives them apart.

    By a trial on the longest rows. Answers of one token need none: nothing goes on from the cache.
    """
    if not tokens or not all(one.seen for one in tokens):
        return False
    rows = sorted(range(len(tokens)), key=lambda row: -len(tokens[row].ids))[:_TRIED]
    some, few = [tokens[row] for row in rows], answers.of(rows)
    try:
        found = evaluate_continued(model, some, few, pad_id, vocabulary).answers
    except Exception:  # whatever a model raises that cannot be used this way
        return False
    plain = evaluate_apart(model, some, few, pad_id, vocabulary).answers
    assert found is not None
    assert plain is not None
    allowed = max(_ROUNDINGS * torch.finfo(model.dtype).eps, _LEAST)
    return bool(np.linalg.norm(found - plain) <= allowed * np.linalg.norm(plain))


def _prompt(one: Tokens) -> Tokens:
    """An example without its answer."""
    start = one.answer.index(True)
    return Tokens(one.ids[:start], (False,) * start, seen=one.seen)


def _row(
    model: Any, batch: Batch, answers: Sequence[tuple[int, ...]], pad_id: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Log-probability of each answer of one row, and whether greedy decoding writes it."""
    first, cache = run_prompt(model, batch)
    logits = [first.expand(len(answers), 1, -1)]
    longest = max(map(len, answers))
    if longest > 1:
        read = [torch.tensor(one[:-1], dtype=torch.long) for one in answers]
        ids = pad_sequence(read, batch_first=True, padding_value=pad_id)
        logits.append(_after(model, ids, cache))
    forget_pictures(model)
    scores = torch.cat(logits, 1).log_softmax(-1)
    logs, hits = np.zeros(len(answers)), np.zeros(len(answers), bool)
    for number, answer in enumerate(answers):
        wanted = torch.tensor(answer, device=scores.device)
        own = scores[number, : len(answer)]
        logs[number] = own.gather(1, wanted[:, None]).double().sum().item()
        hits[number] = bool((own.argmax(-1) == wanted).all())
    return logs, hits


def _after(model: Any, ids: Tensor, cache: Any) -> Tensor:
    """Logits ``(answers, read, vocabulary)`` of what is read after the prompt in ``cache``.

    Padding is on the right, where nothing that counts sees it. So no mask is given: Qwen2-VL would
    take its positions from it as if the prompt were read again.
    """
    device = next(model.parameters()).device
    with head_only_at(model, torch.ones_like(ids, dtype=torch.bool)):
        past = cached(model, cache, len(ids))
        output = model(input_ids=ids.to(device), use_cache=True, **past)
    return output.logits[0].float().view(*ids.shape, -1)
