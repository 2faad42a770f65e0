"""A training run as a job: what its key depends on."""

from __future__ import annotations

from collections.abc import Sequence

from mashup.loo.experiment import Experiment
from mashup.loo.graph import Inputs
from mashup.loo.job import Job


def training(
    experiment: Experiment,
    inputs: Inputs,
    task: str,
    seed: int,
    rate: float,
    *,
    budget: float = 1.0,
    steps: int | None = None,
    init: str | None = None,
    words: Sequence[str] = (),
    shuffled: bool = False,
    donor: bool = False,
    keeps_weights: bool = False,
) -> Job:
    """One run on a task.

    Args:
        experiment: that it belongs to.
        inputs: what jobs are keyed by.
        task: name of the task.
        seed: of the run.
        rate: learning rate.
        budget: share of the steps.
        steps: how many instead.
        init: key of the job that it starts from, None for the base.
        words: what tables call it, between task and seed.
        shuffled: whether it learns answers of other rows.
        donor: whether others start from it: it then has the adapter's own rank.
        keeps_weights: whether a later job reads its weights.
    """
    if steps is None and budget != 1.0:
        steps = max(1, round(budget * inputs.steps[task]))
    settings = experiment.settings(seed=seed, rate=rate, steps=steps, donor=donor)
    decides = {
        "base": inputs.base,
        "task": inputs.tasks[task],
        "settings": settings.model_dump(),
        "shuffled": shuffled,
    }
    shown = [task, *words, f"seed {seed}", f"rate {rate:g}"]
    shown += [f"budget {budget:g}"] if budget != 1.0 else []
    about = {"task": task, "words": shown}
    needs = {"init": (init,)} if init else {}
    return Job("train", decides, needs, about, keeps_weights)
