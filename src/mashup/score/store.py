"""Scores kept by content: what would change the result is in the key, nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

import mashup
from mashup.files import digest_of
from mashup.model import Base
from mashup.score.evaluate import Evaluation
from mashup.task import Tokens

_CODE = 3  # raise it when the same inputs would give other numbers


def sample_digest(tokens: Sequence[Tokens]) -> str:
    """Digest of token ids and answer marks: examples, template and tokenizer are all in it."""
    return digest_of([(one.ids, one.answer) for one in tokens])


def score_key(base: Base, checkpoint: str, sample: str) -> str:
    """Key of one score; ``checkpoint`` is its digest, "" for the base."""
    return digest_of(_CODE, base.digest, str(base.dtype), base.device.type, checkpoint, sample)


def dump(evaluation: Evaluation, seconds: float) -> str:
    return json.dumps(
        {
            "version": mashup.__version__,
            "losses": evaluation.losses.tolist(),
            "tokens": evaluation.tokens.tolist(),
            "correct": evaluation.correct.tolist(),
            "seconds": seconds,
        }
    )


def load(text: str) -> tuple[Evaluation, float]:
    """Evaluation and the seconds that it took when it was made."""
    record = json.loads(text)
    evaluation = Evaluation(
        np.array(record["losses"], float),
        np.array(record["tokens"], np.int64),
        np.array(record["correct"], bool),
    )
    return evaluation, record["seconds"]
