"""A training run as a job."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from mashup._train.record import RUN, Run
from mashup._train.run import train
from mashup._train.trainer import steps_of
from mashup.errors import DivergedError
from mashup.loo.experiment import folder_of
from mashup.loo.job import Job
from mashup.loo.work.worker import Worker, with_shuffled_answers
from mashup.model import Base
from mashup.results.curve import CURVE, START_TEST, TEST
from mashup.settings import TrainSettings

#: What stays of a run whose weights no later job reads.
_KEPT = (RUN, CURVE, TEST, START_TEST)


def run(worker: Worker, job: Job) -> dict[str, Any]:
    """Train; a run that diverged is a result too. Weights go unless a later job reads them."""
    name = job.about["task"]
    task = worker.task(name)
    if job.decides["shuffled"]:
        task = with_shuffled_answers(task, job.decides["settings"]["seed"])
    settings = TrainSettings(**job.decides["settings"])
    if job.decides.get("longer"):
        settings = _longer(worker, job, settings)
    shown = folder_of(name) + ("-shuffled" if job.decides["shuffled"] else "")
    folder = worker.store.folder(job.key).absolute() / shown
    if (worker.store.folder(job.key) / "result.json").exists():
        shutil.rmtree(folder, ignore_errors=True)  # it was done and its weights are gone
    base, init = _start(worker, job)
    try:
        done = train(
            base, task, output=folder, init=init, settings=settings, accept_base=True,
            progress=worker.progress,
        )  # fmt: skip
    except DivergedError as error:
        shutil.rmtree(folder, ignore_errors=True)
        return {"diverged": True, "train_seconds": error.seconds, "weights": True}
    if not job.keeps_weights:
        for path in {*folder.iterdir()} - {folder / name for name in _KEPT}:
            path.unlink(missing_ok=True)  # by another process of this run
    return _facts(worker, job, done)


def _facts(worker: Worker, job: Job, done: Run) -> dict[str, Any]:
    check = done.record["start_check"]
    tokens = done.last.tokens
    return {
        "diverged": False,
        "path": str(done.path.relative_to(worker.store.root.absolute())),
        "weights": job.keeps_weights,
        "dev_loss": done.kept.dev_loss,
        "train_seconds": done.record["train_seconds"],
        "check_seconds": check["seconds"] if check else 0.0,
        "tokens": tokens,
    }


def _start(worker: Worker, job: Job) -> tuple[Base, Path | None]:
    """Base and init that it starts from; a merge that was folded in is a base of its own."""
    for key in job.needs.get("init", ()):
        facts = worker.store.result(key)
        path = worker.place(facts["path"]) if facts["path"] else None
        if path and facts.get("folded"):
            return worker.load(path), None
        return worker.base, path
    return worker.base, None


def _longer(worker: Worker, job: Job, settings: TrainSettings) -> TrainSettings:
    """Scratch's best rate, and as many more steps as fit into what mashup spends before it."""
    best = worker.best_of(job.needs["scratch"])
    if best is None:
        return settings
    known = Run.open(worker.place(best["path"]))
    rate = known.record["config"]["settings"]["learning_rate"]
    steps = known.record["steps"]
    (score,), (init,) = job.needs["score"], job.needs["mashup"]
    spent = worker.store.result(score)["seconds"] + worker.store.result(init)["seconds"]
    more = round(spent / max(known.record["train_seconds"] / steps, 1e-9))
    whole = steps_of(len(worker.task(job.about["task"]).train), settings)
    return settings.model_copy(update={"learning_rate": rate, "max_steps": whole + more})
