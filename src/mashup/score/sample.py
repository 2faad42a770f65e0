"""The sample that a task is scored on: some of its training rows, in one fixed order."""

from __future__ import annotations

from collections.abc import Sequence

from mashup.model import Base
from mashup.score.batches import Batch, make_batches
from mashup.score.sharing import share_prefix
from mashup.task import Task, Tokens, tokenize

SAMPLES = 256  # examples; arXiv 2603.10156 scores on as many


def sample_tokens(
    base: Base, task: Task, samples: int, seed: int, max_length: int
) -> tuple[Tokens, ...]:
    """Tokens of the sample that a task is scored on.

    A smaller sample of the same seed is the beginning of a larger one.
    """
    examples = task.sample(samples, seed)
    longest = min(max_length, base.context)
    return tokenize(base.tokenizer, examples, max_length=longest, where=f"{task.name} (sample)")


def batches_for(base: Base, tokens: Sequence[Tokens]) -> tuple[Batch, ...]:
    """Length-sorted batches of ``tokens`` for ``base``; what all begin with is run once.

    A trial of a few examples decides whether ``base`` can do that.
    """
    return share_prefix(base.model, plain_batches(base, tokens))


def plain_batches(base: Base, tokens: Sequence[Tokens]) -> tuple[Batch, ...]:
    """Length-sorted batches without a prefix of their own."""
    vocabulary = base.model.config.get_text_config().vocab_size
    return make_batches(tokens, base.pad_id, vocabulary)
