"""Loss and accuracy of a model on batches: sums over answer tokens, divided once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mashup.model import head_only_at
from mashup.progress import Advance, Progress
from mashup.score.batches import Batch, predicting


@dataclass(frozen=True)
class Evaluation:
    """Per-example results, in the order of the sample.

    Attributes:
        losses: ``(n,)`` negative log-likelihood in nats, summed over the answer's tokens.
        tokens: ``(n,)`` number of answer tokens.
        correct: ``(n,)`` whether every answer token is the most likely one, which is
            whether greedy decoding would write exactly this answer.
    """

    losses: NDArray[np.float64]
    tokens: NDArray[np.int64]
    correct: NDArray[np.bool_]

    @property
    def loss(self) -> float:
        """Nats per answer token over the whole sample."""
        return float(self.losses.sum() / self.tokens.sum())

    @property
    def accuracy(self) -> float:
        """Share of examples that are answered exactly right."""
        return float(self.correct.mean())


def evaluate_showing(
    model: Any, batches: Sequence[Batch], progress: Progress, label: str = "evaluating"
) -> Evaluation:
    """:func:`evaluate` with a bar of its own."""
    with progress.bar(label, len(batches)) as advance:
        return evaluate(model, batches, advance=advance)


def evaluate(model: Any, batches: Sequence[Batch], *, advance: Advance | None = None) -> Evaluation:
    """Evaluate ``model`` as it is now, without changing it; ``advance`` is called after a batch.

    No result depends on batch size, order or padding, save for rounding in the model.
    """
    count = sum(len(batch.rows) for batch in batches)
    losses, correct = np.zeros(count), np.zeros(count, bool)
    tokens = np.zeros(count, np.int64)
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            rows = batch.rows.numpy()
            losses[rows], correct[rows] = _forward(model, batch)
            tokens[rows] = batch.answer.sum(1).numpy()
            if advance:
                advance()
    finally:
        model.train(was_training)
    return Evaluation(losses, tokens, correct)


@torch.no_grad()
def _forward(model: Any, batch: Batch) -> tuple[Any, Any]:
    logits = answer_logits(model, batch.ids, batch.mask, batch.answer)
    targets = batch.ids[batch.answer].to(logits.device)
    losses = F.cross_entropy(logits, targets, reduction="none").double().cpu()
    hits = (logits.argmax(-1) == targets).cpu()
    rows = batch.answer.nonzero()[:, 0]
    size = len(batch.rows)
    summed = torch.zeros(size, dtype=torch.float64).index_add_(0, rows, losses)
    missed = torch.zeros(size, dtype=torch.long).index_add_(0, rows, (~hits).long())
    return summed.numpy(), (missed == 0).numpy()


def answer_logits(model: Any, ids: Tensor, mask: Tensor, answer: Tensor) -> Tensor:
    """Logits ``(answer tokens, vocabulary)`` in float32, one row for each answer token."""
    device = next(model.parameters()).device
    with head_only_at(model, predicting(answer)):
        output = model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
    return output.logits[0].float()
