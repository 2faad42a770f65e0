"""Rank the donors for a target and choose, as a job."""

from __future__ import annotations

from typing import Any

from mashup.loo.job import Job
from mashup.loo.work.worker import Worker
from mashup.select import select


def rank(worker: Worker, job: Job) -> dict[str, Any]:
    """Score and select; the seconds are those of all losses as if none had been known."""
    choose = worker.experiment.choose
    scores = worker.scores(job)
    selection = select(scores, k=choose.k, diversity=choose.diversity)
    return {
        "chosen": [score.digest for score in selection.chosen],
        "sentence": selection.sentence,
        "base_loss": scores.base.loss,
        "base_accuracy": scores.base.accuracy,
        "ranking": [
            {
                "name": score.name,
                "digest": score.digest,
                "loss": score.loss,
                "accuracy": score.accuracy,
                "examples": score.examples,
            }
            for score in scores.ranking
        ],
        "strategy": scores.strategy,
        "forwards": scores.cost.forwards,
        "exhaustive_forwards": scores.cost.exhaustive,
        "seconds": scores.cost.seconds,
    }
