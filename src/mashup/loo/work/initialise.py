"""What an arm starts from, as a job: a merge of its parents, or noise of a merge's size."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from typing import Any

from mashup.checkpoint import Checkpoint
from mashup.loo.job import Job
from mashup.loo.work.noise import noise_like
from mashup.loo.work.worker import Worker
from mashup.merge import METHODS, Init
from mashup.score import Score, Scores
from mashup.select import Selection
from mashup.start import Sample, make_init


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
    sample = Sample(
        worker.experiment.choose.samples, worker.experiment.split_seed,
        worker.experiment.train.max_length,
    )  # fmt: skip
    init = make_init(
        Selection(tuple(parents), scores), worker.base, worker.task(job.about["task"]), sample,
        output, accept_base=True, progress=worker.progress, **_options(worker, parents),
    )  # fmt: skip
    return _facts(worker, init, [score.name for score in parents])


def _facts(worker: Worker, init: Init, parents: Sequence[str]) -> dict[str, Any]:
    about = init.manifest
    return {
        "path": str(init.path.relative_to(worker.store.root.absolute())),
        "parents": list(parents),
        "loss": about["sample"]["loss"],
        "seconds": about.get("merge_seconds", 0.0) + about.get("measure_seconds", 0.0),
    }


def _options(worker: Worker, parents: Sequence[Score]) -> dict[str, Any]:
    """Of the merge; a method that cannot take so many parents gives way to ``linear``."""
    options = worker.experiment.merge.model_dump()
    least, most = METHODS[options["method"]].parents
    if not least <= len(parents) <= most:
        options["method"] = "linear"
    if worker.experiment.train.is_full:
        return options | {"output_kind": "full"}
    exact = sum(score.checkpoint.rank or 0 for score in parents if score.checkpoint)
    if exact <= worker.experiment.rank and options["method"] != "factor_average":
        options["rank"] = worker.experiment.rank
    return options


def _parents(worker: Worker, job: Job, scores: Scores) -> list[Score]:
    """The checkpoints that an arm merges."""
    arm, k = job.decides["arm"], job.decides["k"]
    if arm == "best-single":
        return list(scores.ranking[:1])
    if arm == "average-all":
        return list(scores.ranking)
    if arm == "random":
        by_digest = sorted(scores.ranking, key=lambda score: score.digest)
        draw = random.Random(job.decides["draw"])
        return draw.sample(by_digest, min(k, len(by_digest)))
    (key,) = job.needs["score"]
    known = {score.digest: score for score in scores.ranking}
    chosen = [known[digest] for digest in worker.store.result(key)["chosen"]]
    if arm == "format-only":
        return [_shuffled(worker, job, score) for score in chosen]
    return chosen


def _shuffled(worker: Worker, job: Job, score: Score) -> Score:
    """A chosen donor's twin that was trained on the same prompts with shuffled answers."""
    assert score.checkpoint is not None
    task = score.checkpoint.path.name
    (twin,) = worker.runs(job, [f"shuffled {task}"])
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
