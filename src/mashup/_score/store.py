"""Losses kept by content: what would change a number is in its keys, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from mashup.files import digest_of
from mashup.model import Base
from mashup.task import Tokens

_CODE = 4  # raise it when the same inputs would give other numbers


def sample_digest(tokens: Sequence[Tokens]) -> str:
    """Digest of token ids and answer marks: examples, template and tokenizer are all in it."""
    return digest_of([(one.ids, one.answer) for one in tokens])


def example_key(tokens: Tokens, answers: Sequence[tuple[int, ...]] = ()) -> str:
    """Key of one example, and of the set of answers that all have a probability of their own."""
    return digest_of(tokens.ids, tokens.answer, *([answers] if answers else []))


def model_key(base: Base, checkpoint: str) -> str:
    """Key of a base with a checkpoint on it; ``checkpoint`` is its digest, "" for the base."""
    computed = (base.digest, str(base.dtype), base.device.type, *base.asked.values())
    return digest_of(_CODE, *computed, checkpoint)
