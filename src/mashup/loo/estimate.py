"""How long jobs will take and how much disk: from finished ones, else from a short probe.

The unit is one token through the model once, forward. A training step costs three (forward, and
backward for activations and weights: Kaplan et al., arXiv 2001.08361, section 2.1), an evaluation
one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from mashup.checkpoint import locate, read_tensors
from mashup.loo.experiment import Experiment
from mashup.loo.graph import Plan
from mashup.loo.job import Job
from mashup.loo.store import Store
from mashup.settings import TrainSettings
from mashup.task import Task
from mashup.train.trainer import curve_steps, steps_of

_CHARACTERS = 4  # a token, near enough before anything is tokenized
_BACKWARD = 3
_EFFICIENCY = 0.4  # of a plain matrix product that a whole model reaches


def tokens_of(job: Job, tasks: Mapping[str, Task], donors: int) -> float:
    """Forward tokens of a job, an estimate."""
    task = tasks[job.about["task"]]
    row = _row_tokens(task)
    if job.kind == "score":
        choose = job.decides.get("choose", {"samples": 0})  # a choice by probes reads their runs
        return row * choose["samples"] * (1 + donors)
    if job.kind == "init":
        return row * job.decides["samples"]
    settings = TrainSettings(**job.decides["settings"])
    trained = steps_of(len(task.train), settings) * settings.batch_size
    points = 1 + len(curve_steps(steps_of(len(task.train), settings), settings))
    tests = {"all": points, "end": 1, "none": 0}[settings.test_points]
    held = points * len(task.dev) + tests * len(task.test)
    held += 2 * len(task.dev) if job.needs.get("init") else 0
    return row * (_BACKWARD * trained + held)


def _row_tokens(task: Task) -> float:
    some = task.train[:64]
    characters = sum(len(message.content) for row in some for message in row.messages)
    return characters / len(some) / _CHARACTERS


def seconds_a_token(
    experiment: Experiment, plan: Plan, store: Store, work: Mapping[str, float]
) -> float:
    """From finished jobs; from the base's size and a matrix product's speed when there are none."""
    done = [key for key, job in plan.jobs.items() if store.is_done(job)]
    seconds = sum(store.result(key)["took"] for key in done)
    tokens = sum(work[key] for key in done)
    return seconds / tokens if tokens and seconds else _probe(experiment)


def _probe(experiment: Experiment) -> float:
    """Two operations a weight and token, at the speed of a plain matrix product."""
    import torch

    from mashup.model.base import named_device
    from mashup.model.device import parse_dtype

    device = named_device(experiment.device)
    dtype = parse_dtype(experiment.dtype, device)
    one = torch.randn(1024, 1024, device=device, dtype=dtype)
    start, rounds = time.perf_counter(), 0
    while time.perf_counter() - start < 0.2:
        float((one @ one)[0, 0])
        rounds += 1
    speed = rounds * 2 * 1024**3 / (time.perf_counter() - start)
    return 2 * weights_of(experiment) / (speed * _EFFICIENCY)


def weights_of(experiment: Experiment) -> int:
    """How many weights the base has, from headers."""
    stored = read_tensors(locate(experiment.base)).values()
    return sum(one.rows * one.row_size for one in stored)


def bytes_of(jobs: Iterable[Job], experiment: Experiment) -> int:
    """Disk of the weights that are kept, and of what a run needs while it trains."""
    kept = sum(job.keeps_weights for job in jobs)
    whole = weights_of(experiment)
    if experiment.train.is_full:
        return kept * 4 * whole + 16 * whole
    each = 4 * _adapter_weights(experiment, max(experiment.rank, experiment.train.lora_r))
    return (kept + 4) * each


def _adapter_weights(experiment: Experiment, rank: int) -> int:
    """Of a LoRA on every matrix of the layers, from headers."""
    stored = read_tensors(locate(experiment.base)).items()
    shapes = [one.shape for name, one in stored if ".layers." in name and len(one.shape) == 2]
    return sum(rank * (rows + columns) for rows, columns in shapes)
