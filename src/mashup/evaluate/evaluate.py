"""Loss and accuracy of a model on batches: sums over answer tokens, divided once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from mashup.evaluate.batches import Batch, make_batches
from mashup.evaluate.prefix import answer_logits, run_prefix, share_prefix
from mashup.files import digest_of
from mashup.model import Base
from mashup.progress import Advance, Progress
from mashup.task import Task, Tokens, tokenize


@dataclass(frozen=True)
class Evaluation:
    """Per-example results, in the order of the sample.

    Attributes:
        losses: ``(n,)`` negative log-likelihood in nats, summed over the answer's tokens.
        tokens: ``(n,)`` number of answer tokens.
        correct: ``(n,)`` whether every answer token is the most likely one, which is
            whether greedy decoding would write exactly this answer.
        answers: ``(n, answers)`` log-probability in nats of every answer of a finite set; None
            where the answers are free text.
        labels: ``(n,)`` which of them is the right one.
        prompts: ``(n,)`` which prompt each example has, counted from 0; None where that is not
            known. Examples with one prompt are not independent.
    """

    losses: NDArray[np.float64]
    tokens: NDArray[np.int64]
    correct: NDArray[np.bool_]
    answers: NDArray[np.float64] | None = None
    labels: NDArray[np.intp] | None = None
    prompts: NDArray[np.int64] | None = None

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

    No result depends on batch size, order or padding, except for rounding in the model.
    """
    return evaluate_copies(model, batches, 1, advance)[0]


@torch.no_grad()
def evaluate_copies(
    model: Any, batches: Sequence[Batch], copies: int, advance: Advance | None = None
) -> list[Evaluation]:
    """Evaluate a model that computes ``copies`` things at once, one on each copy of the examples.

    It is given ``(copies · batch, length)`` token ids, one copy of the batch after the other.
    """
    count = sum(len(batch.rows) for batch in batches)
    losses, correct = np.zeros((copies, count)), np.zeros((copies, count), bool)
    tokens = np.zeros(count, np.int64)
    with evaluating(model):
        cache = run_prefix(model, batches[0], copies) if batches and batches[0].prefix else None
        for batch in batches:
            rows = batch.rows.numpy()
            losses[:, rows], correct[:, rows] = _forward(model, batch, copies, cache)
            tokens[rows] = batch.answer.sum(1).numpy()
            if advance:
                advance()
    return [Evaluation(losses[copy], tokens, correct[copy]) for copy in range(copies)]


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Without dropout within the block."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _forward(model: Any, batch: Batch, copies: int, cache: Any) -> tuple[Any, Any]:
    """Loss and hit of every example of a batch, each ``(copies, batch)``."""
    answer = batch.answer.repeat(copies, 1)
    logits = answer_logits(model, batch, copies, cache)
    targets = batch.ids.repeat(copies, 1)[answer].to(logits.device)
    losses = F.cross_entropy(logits, targets, reduction="none").double().cpu()
    hits = (logits.argmax(-1) == targets).cpu()
    rows = answer.nonzero()[:, 0]
    summed = torch.zeros(len(answer), dtype=torch.float64).index_add_(0, rows, losses)
    missed = torch.zeros(len(answer), dtype=torch.long).index_add_(0, rows, (~hits).long())
    return summed.view(copies, -1).numpy(), (missed == 0).view(copies, -1).numpy()


def sample_tokens(
    base: Base, task: Task, samples: int, seed: int, max_length: int
) -> tuple[Tokens, ...]:
    """Tokens of the sample that a task is scored on.

    A smaller sample of the same seed is the beginning of a larger one. Where the task leaves
    out rows that are too long, it has fewer examples.
    """
    examples, where = task.sample(samples, seed), f"{task.name} (sample)"
    longest = min(max_length, base.context)
    return tokenize(
        base.tokenizer, examples, max_length=longest, where=where, drop_long=task.drop_long,
        processor=base.processor,
    )  # fmt: skip


def sample_digest(tokens: Sequence[Tokens]) -> str:
    """Digest of token ids and answer marks, which examples, template and tokenizer decide.

    Of rows with pictures also of what the processor makes of them.
    """
    return digest_of([one.keys for one in tokens])


def batches_for(base: Base, tokens: Sequence[Tokens]) -> tuple[Batch, ...]:
    """Length-sorted batches of ``tokens`` for ``base``; what all begin with is run once.

    A trial of a few examples decides whether ``base`` can do that.
    """
    return share_prefix(base.model, plain_batches(base, tokens))


def plain_batches(base: Base, tokens: Sequence[Tokens]) -> tuple[Batch, ...]:
    """Length-sorted batches without a prefix of their own."""
    return make_batches(tokens, base.pad_id, vocabulary_of(base))


def vocabulary_of(base: Base) -> int:
    """Tokens that the model knows, which is the width of its logits."""
    return int(base.model.config.get_text_config().vocab_size)
