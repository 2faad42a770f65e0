"""What an experiment's jobs are keyed by: digests of its base, data and library.

Nothing here loads torch before the data and the library have been read, so that mistakes in them
are found in a second.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from mashup.checkpoint import check_base, locate, read_checkpoint
from mashup.checkpoint.history import read_prompts
from mashup.errors import InputError, Problem, gather, raise_all
from mashup.experiment.jobs import Inputs
from mashup.experiment.settings import Experiment
from mashup.files import disk_errors, require_folder
from mashup.library import Index, Library, base_digest, checkpoint_digest, scan
from mashup.library.leakage import leak, share_seen
from mashup.task import Task, asked_prompts, load_task, taught_prompts


def load(experiment: Experiment, name: str) -> Task:
    """A task of an experiment, with the sizes that it or the experiment gives."""
    data = experiment.tasks[name]
    return load_task(
        data.dataset, test=data.test_dataset, name=name, record=data.task_record,
        train_rows=data.train_rows or experiment.train_rows,
        dev_rows=data.dev_rows or experiment.dev_rows,
        test_rows=data.test_rows or experiment.test_rows, seed=experiment.split_seed,
        **data.reading,
    )  # fmt: skip


def read_tasks(experiment: Experiment) -> dict[str, Task]:
    """The tasks by name; torch is not loaded for it.

    Raises:
        InputError: no such base or library, data that cannot be read; all at once.
    """
    library = [Path(experiment.library)] if experiment.library else []
    checks: list[Callable[[], Any]] = [partial(check_base, experiment.base)]
    checks += [partial(require_folder, folder) for folder in library]
    found = gather(*checks, *(partial(load, experiment, name) for name in experiment.tasks))
    return dict(zip(experiment.tasks, found[len(checks) :], strict=True))


def read_inputs(experiment: Experiment, tasks: Mapping[str, Task], root: Path) -> Inputs:
    """Digests of everything that results depend on.

    Args:
        experiment: what is to be run.
        tasks: as :func:`read_tasks` gives them.
        root: folder of the jobs, where digests are remembered.

    Raises:
        InputError: a base or checkpoints that cannot be read; a target all of whose donors were
            trained on its held-out rows.
    """
    with disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    seen = {name: taught_prompts(task.train) for name, task in tasks.items()}
    library: dict[str, str] = {}
    with Index(root) as index:
        if experiment.library:
            scanned = scan(experiment.library)
            named = named_checkpoints(scanned)
            library = {name: checkpoint_digest(one.path, index) for name, one in named.items()}
            seen = {name: read_prompts(one.run) for name, one in named.items()}
        donors = {  # of the tasks of an experiment one is the target itself
            target: {name: keys for name, keys in seen.items() if library or name != target}
            for target in experiment.wanted
        }
        left_out = {target: _leaks(tasks[target], known) for target, known in donors.items()}
        if {*experiment.arms, *experiment.variants} - {"scratch"}:
            raise_all(_without_donors(donors, left_out))
        base = base_key(experiment, index)
    from mashup._train.trainer import steps_of

    settings = experiment.settings(seed=0, rate=1.0)
    steps = {name: steps_of(len(task.train), settings) for name, task in tasks.items()}
    digests = {name: task.digest for name, task in tasks.items()}
    return Inputs(base, digests, steps, library, left_out)


def named_checkpoints(library: Library) -> dict[str, Any]:
    """Usable checkpoints by their path below the library."""
    return {str(one.path.relative_to(library.root)): one for one in library.usable}


def _leaks(task: Task, donors: Mapping[str, Collection[str]]) -> dict[str, float]:
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
    """Digest of the base's folder, and the precision and attention that it is loaded with.

    Raises:
        InputError: the base cannot be read.
    """
    from mashup.model.base import AUTO, named_device
    from mashup.model.device import parse_dtype

    folder = locate(experiment.base)
    checkpoint = read_checkpoint(folder)
    if checkpoint.problem:
        raise InputError(checkpoint.problem)
    dtype = parse_dtype(experiment.dtype, named_device(experiment.device))
    attention = experiment.attn_implementation
    asked = [] if attention == AUTO else [attention]
    return " ".join([base_digest(folder, index), str(dtype).removeprefix("torch."), *asked])
