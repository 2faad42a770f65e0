"""What an arm starts from, as a job: a merge of its parents, or noise of a merge's size."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

from mashup._compare.arms import random_draw
from mashup._compare.bench import options_for
from mashup._init import Sample, make_init
from mashup._merge.merge import Init
from mashup._score.result import Score
from mashup._score.scores import Scores
from mashup._select import Selection
from mashup.checkpoint import Checkpoint
from mashup.loo.job import Job
from mashup.loo.work.noise import noise_like
from mashup.loo.work.worker import Worker, task_of


def initialise(worker: Worker, job: Job) -> dict[str, Any]:
    """Merge; nothing to merge is a result too, and the arm then starts from the base."""
    output = worker.store.folder(job.key).absolute() / job.decides["arm"]
    shutil.rmtree(output, ignore_errors=True)  # of a job that was cut short
    if job.decides["arm"] == "random-init":
        return _noise(worker, job, output)
    scores = worker.scores(job)
    parents = _parents(worker, job, scores)
    if not parents:
        return {"path": "", "parents": [], "seconds": 0.0}
    of = worker.settings(job)
    sample = Sample(of.choose.samples, of.split_seed, of.train.max_length)
    full = of.train.is_full or of.merge.fold
    options = options_for(of.merge.options(), parents, rank=of.rank, full=full)
    init = make_init(
        Selection(tuple(parents), scores), worker.base, worker.task(job.about["task"]), sample,
        output, accept_base=True, progress=worker.progress, **options,
    )  # fmt: skip
    folded = of.merge.fold and not of.train.is_full
    return _facts(worker, init, [worker.name_of(score) for score in parents]) | {"folded": folded}


def _facts(worker: Worker, init: Init, parents: Sequence[str]) -> dict[str, Any]:
    about = init.manifest
    return {
        "path": str(init.path.relative_to(worker.store.root.absolute())),
        "parents": list(parents),
        "loss": about["sample"]["loss"],
        "seconds": about.get("merge_seconds", 0.0) + about.get("measure_seconds", 0.0),
    }


def _parents(worker: Worker, job: Job, scores: Scores) -> list[Score]:
    """The checkpoints that an arm merges."""
    arm, k = job.decides["arm"], job.decides["k"]
    if arm == "best-single":
        return list(scores.ranking[:1])
    if arm == "average-all":
        return list(scores.ranking)
    if arm == "each-single":
        return [score for score in scores.ranking if task_of(score) == job.decides["donor"]]
    if arm == "random":
        return list(random_draw(scores.ranking, k, job.decides["draw"], job.about["task"]))
    (key,) = job.needs["score"]
    known = {score.digest: score for score in scores.ranking}
    chosen = [known[digest] for digest in worker.store.result(key)["chosen"]]
    if arm == "format-only":
        return [_shuffled(worker, job, score) for score in chosen]
    return chosen


def _shuffled(worker: Worker, job: Job, score: Score) -> Score:
    """A chosen donor's twin that was trained on the same prompts with shuffled answers."""
    (twin,) = worker.runs(job, [f"shuffled {task_of(score)}"])
    assert isinstance(twin, Checkpoint)
    return Score(twin, score.evaluation, score.digest, score.seconds)


def _noise(worker: Worker, job: Job, output: Any) -> dict[str, Any]:
    (key,) = job.needs["mashup"]
    mashup = worker.store.result(key)
    if not mashup["path"]:
        return {"path": "", "parents": [], "seconds": 0.0}
    noise_like(worker.base.model, worker.place(mashup["path"]), output)
    path = str(output.relative_to(worker.store.root.absolute()))
    return {"path": path, "parents": [], "seconds": 0.0}
