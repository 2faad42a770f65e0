"""Relevance of checkpoints to a task: the loss of each on a sample of its training rows."""

from mashup.score.result import Score
from mashup.score.score import score
from mashup.score.scores import Cost, Scores

__all__ = ["Cost", "Score", "Scores", "score"]
