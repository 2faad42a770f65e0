"""Relevance of checkpoints to a task: the loss of each on a sample of its training rows."""

from mashup.score.batches import Batch, make_batches
from mashup.score.evaluate import Evaluation, evaluate
from mashup.score.exhaustive import score
from mashup.score.result import Score, Scores

__all__ = ["Batch", "Evaluation", "Score", "Scores", "evaluate", "make_batches", "score"]
