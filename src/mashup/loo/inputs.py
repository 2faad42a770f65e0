"""What an experiment's jobs are keyed by: digests of its base, data and library."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from mashup._train.trainer import steps_of
from mashup.checkpoint import locate, read_checkpoint
from mashup.checkpoint.history import read_prompts
from mashup.errors import InputError, Problem, raise_all
from mashup.files import disk_errors
from mashup.library import Index, base_digest, checkpoint_digest, scan
from mashup.library.leakage import leak, share_seen
from mashup.loo.experiment import Experiment
from mashup.loo.graph import Inputs
from mashup.loo.work.worker import load
from mashup.model.base import AUTO, named_device
from mashup.model.device import parse_dtype
from mashup.task import Task, asked_prompts, taught_prompts


def read_inputs(experiment: Experiment, root: Path) -> tuple[Inputs, dict[str, Task]]:
    """Digests, and the tasks themselves; nothing is loaded that takes long.

    Args:
        experiment: what is to be run.
        root: folder of the jobs, where digests are remembered.

    Raises:
        InputError: a base, data or checkpoints that cannot be read; a target all of whose donors
            were trained on its held-out rows; all at once.
    """
    problems: list[Problem] = []
    tasks: dict[str, Task] = {}
    for name in experiment.tasks:
        try:
            tasks[name] = load(experiment, name)
        except InputError as error:
            problems += error.problems
    with disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    with Index(root) as index:
        base = ""
        library: dict[str, str] = {}
        seen = {name: taught_prompts(task.train) for name, task in tasks.items()}
        try:
            base = base_key(experiment, index)
            if experiment.library:
                library, seen = _library(experiment.library, index)
        except InputError as error:
            problems += error.problems
    raise_all(problems)
    donors = {  # of the tasks of an experiment one is the target itself
        target: {name: keys for name, keys in seen.items() if experiment.library or name != target}
        for target in experiment.wanted
    }
    left_out = {target: _leaks(tasks[target], known) for target, known in donors.items()}
    if {*experiment.arms, *experiment.variants} - {"scratch"}:
        raise_all(_without_donors(donors, left_out))
    digests = {name: task.digest for name, task in tasks.items()}
    settings = experiment.settings(seed=0, rate=1.0)
    steps = {name: steps_of(len(task.train), settings) for name, task in tasks.items()}
    return Inputs(base, digests, steps, library, left_out), tasks


def _leaks(task: Task, donors: Mapping[str, frozenset[str]]) -> dict[str, float]:
    """Donors that were trained on held-out rows of a task, with the share of them."""
    shares = {name: share_seen(prompts, task) for name, prompts in donors.items()}
    return {name: share for name, share in shares.items() if share}


def _without_donors(
    donors: Mapping[str, Collection[str]], left_out: Mapping[str, Mapping[str, float]]
) -> list[Problem]:
    """Why no donor is left, of each target that has none."""
    return [
        leak(f"{donor}, for {target}", share)
        for target, shares in left_out.items()
        if len(shares) == len(donors[target])
        for donor, share in shares.items()
    ]


def notes_on(inputs: Inputs, tasks: Mapping[str, Task], targets: Sequence[str]) -> tuple[str, ...]:
    """What a user must know of the rows before anything runs, a line each."""
    notes = [
        f"{target}: {donor} is left out, trained on {share:.0%} of the dev and test prompts"
        for target, shares in inputs.left_out.items()
        for donor, share in shares.items()
    ]
    tests = {target: asked_prompts(tasks[target].test) for target in targets}
    for one, other in combinations(targets, 2):
        if both := len(tests[one] & tests[other]):
            notes.append(
                f"{one} and {other} share {both} test prompts: their results are not independent"
            )
    return tuple(notes)


def base_key(experiment: Experiment, index: Index) -> str:
    """Digest of the base's folder, and the precision and attention that it is loaded with."""
    folder = locate(experiment.base)
    checkpoint = read_checkpoint(folder)
    if checkpoint.problem:
        raise InputError(checkpoint.problem)
    dtype = parse_dtype(experiment.dtype, named_device(experiment.device))
    attention = experiment.attn_implementation
    asked = [] if attention == AUTO else [attention]
    return " ".join([base_digest(folder, index), str(dtype).removeprefix("torch."), *asked])


def _library(folder: str, index: Index) -> tuple[dict[str, str], dict[str, frozenset[str]]]:
    """Name to digest, and name to prompts trained on, of what can be used in a folder."""
    library = scan(folder)
    named = {str(one.path.relative_to(library.root)): one for one in library.usable}
    digests = {name: checkpoint_digest(one.path, index) for name, one in named.items()}
    return digests, {name: read_prompts(one.run) for name, one in named.items()}
