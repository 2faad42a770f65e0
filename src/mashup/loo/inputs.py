"""What an experiment's jobs are keyed by: digests of its base, data and library."""

from __future__ import annotations

from pathlib import Path

from mashup.checkpoint import locate, read_checkpoint
from mashup.errors import InputError, Problem, raise_all
from mashup.library import Index, checkpoint_digest, scan, whole_digest
from mashup.loo.experiment import Experiment
from mashup.loo.graph import Inputs
from mashup.loo.work.worker import load
from mashup.model.base import AUTO, named_device
from mashup.model.device import parse_dtype
from mashup.task import Task
from mashup.train.trainer import steps_of


def read_inputs(experiment: Experiment, root: Path) -> tuple[Inputs, dict[str, Task]]:
    """Digests, and the tasks themselves; nothing is loaded that takes long.

    Args:
        experiment: what is to be run.
        root: folder of the jobs, where digests are remembered.

    Raises:
        InputError: a base, data or checkpoints that cannot be read; all at once.
    """
    problems: list[Problem] = []
    tasks: dict[str, Task] = {}
    for name in experiment.tasks:
        try:
            tasks[name] = load(experiment, name)
        except InputError as error:
            problems += error.problems
    root.mkdir(parents=True, exist_ok=True)
    with Index(root) as index:
        base = ""
        library: tuple[str, ...] = ()
        try:
            base = base_key(experiment, index)
            library = _library(experiment, index)
        except InputError as error:
            problems += error.problems
    raise_all(problems)
    digests = {name: task.digest for name, task in tasks.items()}
    settings = experiment.settings(seed=0, rate=1.0)
    steps = {name: steps_of(len(task.train), settings) for name, task in tasks.items()}
    return Inputs(base, digests, steps, library), tasks


def base_key(experiment: Experiment, index: Index) -> str:
    """Digest of the base's files, and the precision that it will be loaded in."""
    folder = locate(experiment.base)
    checkpoint = read_checkpoint(folder)
    if checkpoint.problem:
        raise InputError(checkpoint.problem)
    dtype = parse_dtype(experiment.dtype, named_device(experiment.device))
    attention = experiment.attn_implementation
    asked = [] if attention == AUTO else [attention]
    return " ".join([whole_digest(folder, index), str(dtype).removeprefix("torch."), *asked])


def _library(experiment: Experiment, index: Index) -> tuple[str, ...]:
    if not experiment.library:
        return ()
    usable = scan(experiment.library).usable
    return tuple(sorted(checkpoint_digest(one.path, index) for one in usable))
