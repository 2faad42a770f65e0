"""Relevance of checkpoints to a task: the loss of each on a sample of its training rows."""

from typing import TYPE_CHECKING

from mashup import lazily

if TYPE_CHECKING:
    from mashup.score.result import Score
    from mashup.score.score import score
    from mashup.score.scores import Cost, Scores

__all__ = ["Cost", "Score", "Scores", "score"]

lazily(
    __name__,
    {
        "mashup.score.result": ("Score",),
        "mashup.score.score": ("score",),
        "mashup.score.scores": ("Cost", "Scores"),
    },
)
