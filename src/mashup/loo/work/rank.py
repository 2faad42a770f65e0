"""Rank the donors for a target and choose, as a job."""

from __future__ import annotations

from typing import Any

from mashup._select import select
from mashup.loo.job import Job
from mashup.loo.probe import FROM_BASE, choose_by_probe
from mashup.loo.work.worker import Worker, task_of


def rank(worker: Worker, job: Job) -> dict[str, Any]:
    """Score and select; the seconds are those of all losses as if none had been known."""
    if "score" in job.needs:
        return _probed(worker, job)
    choose = worker.settings(job).choose
    scores = worker.scores(job)
    selection = select(scores, k=choose.k, diversity=choose.diversity)
    return {
        "chosen": [score.digest for score in selection.chosen],
        "sentence": selection.sentence,
        "base_loss": scores.base.loss,
        "base_accuracy": scores.base.accuracy,
        "ranking": [
            {
                "name": worker.name_of(score),
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


def _probed(worker: Worker, job: Job) -> dict[str, Any]:
    """The ranking, with those chosen that are best after the probes' steps; all seconds of it."""
    results = {role: worker.store.result(keys[0]) for role, keys in job.needs.items()}
    probes = {role: one for role, one in results.items() if role.startswith(FROM_BASE)}
    known = results["score"]
    names = {score.digest: task_of(score) for score in worker.scores(job).ranking}
    chosen = choose_by_probe(probes, known["ranking"], job.decides["k"], names.__getitem__)
    spent = sum(one["train_seconds"] + one.get("check_seconds", 0.0) for one in probes.values())
    spent += sum(one["seconds"] for role, one in results.items() if role.startswith("start "))
    sentence = f"the best {len(chosen)} of {len(names)} after the probes' steps"
    return known | {
        "chosen": chosen, "sentence": sentence, "seconds": known["seconds"] + spent,
    }  # fmt: skip
