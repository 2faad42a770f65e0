"""Length-sorted batches: little padding, bounded memory, the same for every checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mashup.task import Tokens
from mashup.task.tokens import Seen

_TOKENS = 2048  # of one batch, padding included
LOGITS = 2**27  # answer positions times vocabulary of one batch: 512 MiB in float32


@dataclass(frozen=True)
class Batch:
    """Right-padded token ids.

    Attributes:
        rows: ``(batch,)`` place of each example in the task's sample.
        ids, mask: ``(batch, length)`` token ids and 1 where a token is real.
        answer: ``(batch, length)`` True where a token is to be predicted.
        prefix: how many tokens at the start are run once for all batches of the sample, since
            all its examples begin with them (:func:`mashup.evaluate.prefix.share_prefix`).
        seen: of an example with pictures what it is to see; it is then a batch of its own, since
            each kind of processor has another way to put rows together.
    """

    rows: Tensor
    ids: Tensor
    mask: Tensor
    answer: Tensor
    prefix: int = 0
    seen: Seen | None = None

    @property
    def positions(self) -> Tensor:
        """``(batch, length)``: True where the *next* token is to be predicted."""
        return predicting(self.answer)


def predicting(answer: Tensor) -> Tensor:
    """Shift an answer mask ``(batch, length)`` to the positions whose logits predict it."""
    return torch.cat((answer[:, 1:], torch.zeros_like(answer[:, :1])), dim=1)


def pad(tokens: Sequence[Tokens], pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and answer of some examples, each ``(batch, longest)``, padded on the right."""
    longest = max(len(one.ids) for one in tokens)
    ids = torch.full((len(tokens), longest), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    answer = torch.zeros_like(ids, dtype=torch.bool)
    for row, one in enumerate(tokens):
        ids[row, : len(one.ids)] = torch.tensor(one.ids)
        mask[row, : len(one.ids)] = 1
        answer[row, : len(one.ids)] = torch.tensor(one.answer)
    return ids, mask, answer


def make_batches(
    tokens: Sequence[Tokens], pad_id: int, vocabulary: int, *, size: int = _TOKENS
) -> tuple[Batch, ...]:
    """Batches of at most ``size`` tokens each, longest first: if memory fails, it fails at once."""
    order = sorted(range(len(tokens)), key=lambda row: (-len(tokens[row].ids), row))
    batches: list[list[int]] = []
    answers = 0
    for row in order:
        answers += tokens[row].answer_count
        full = batches and (len(batches[-1]) + 1) * len(tokens[batches[-1][0]].ids) > size
        full = full or tokens[row].seen is not None
        if not batches or full or answers * vocabulary > LOGITS:
            batches.append([])
            answers = tokens[row].answer_count
        batches[-1].append(row)
    return tuple(_batch(rows, tokens, pad_id) for rows in batches)


def _batch(rows: list[int], tokens: Sequence[Tokens], pad_id: int) -> Batch:
    made = Batch(torch.tensor(rows), *pad([tokens[row] for row in rows], pad_id))
    seen = tokens[rows[0]].seen
    return replace(made, seen=seen) if seen else made
