"""What an experiment's jobs are keyed by: digests of its base, data and library.

Nothing here loads torch before the data and the library have been read, so that mistakes in them
are found in a second.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from mashup.checkpoint import Checkpoint, check_base, locate, read_checkpoint
from mashup.checkpoint.history import read_prompts
from mashup.checkpoint.identity import processor_digest
from mashup.errors import InputError, Problem, gather, raise_all
from mashup.experiment.jobs import Inputs, LeftOut
from mashup.experiment.settings import Experiment
from mashup.library import Index, Library, base_digest, checkpoint_digest, fitting, scan
from mashup.library.leakage import Seen, leak, seen_of, share_seen, unknown_note
from mashup.library.sources import check_library, fetched
from mashup.outputs import disk_errors
from mashup.results.records import data_of
from mashup.task import Task, asked_prompts, load_task, taught_prompts

#: Share of a target's training prompts from which a source counts as one of its own task. Fewer
#: may be chance: utterances such as "thank you" stand in several tasks.
_OWN_TASK = 0.1
_OWN, _FIX = "source of the target's own task", "add sources to the library, or drop the target"


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
    library = [one for one in (experiment.library, experiment.twins) if one]
    checks: list[Callable[[], Any]] = [partial(check_base, experiment.base)]
    checks += [partial(check_library, one) for one in library]
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
    twins: dict[str, str] = {}
    trained_on: dict[str, str] = {}
    unlisted: dict[str, Checkpoint] = {}
    with Index(root) as index:
        if experiment.library:
            scanned = library_of(experiment)
            named = named_checkpoints(scanned)
            library = {name: checkpoint_digest(one.path, index) for name, one in named.items()}
            seen = {name: read_prompts(one.run) for name, one in named.items()}
            trained_on = {name: one.task for name, one in named.items()}
            unlisted = {name: one for name, one in named.items() if not seen[name]}
        if experiment.twins:
            pairs = named_checkpoints(twins_of(experiment)).items()
            twins = {name: checkpoint_digest(one.path, index) for name, one in pairs}
        donors = {  # of the tasks of an experiment one is the target itself
            target: {
                name: keys
                for name, keys in seen.items()
                if library or (name in experiment.sources and data_of(name) != data_of(target))
            }
            for target in experiment.wanted
        }
        searched = {target: _searched(unlisted, tasks[target]) for target in donors}
        left_out = {
            target: _left_out(tasks[target], known, trained_on, searched[target])
            for target, known in donors.items()
        }
        if {*experiment.arms, *experiment.variants} - {"scratch"}:
            raise_all(_without_donors(donors, left_out))
        base = base_key(experiment, index, sees=any(task.sees for task in tasks.values()))
    from mashup._train.trainer import steps_of

    settings = experiment.settings(seed=0, rate=1.0)
    steps = {
        name: experiment.tasks[name].max_steps or steps_of(len(task.train), settings)
        for name, task in tasks.items()
    }
    digests = {name: task.digest for name, task in tasks.items()}
    found = next(iter(searched.values()), {}).values()  # what is unknown is so for every target
    unknown = [one for one in found if one.unknown]
    leaks = (unknown_note(unknown, len(library), "the targets"),) if unknown else ()
    return Inputs(base, digests, steps, library, left_out, twins, leaks)


def named_checkpoints(library: Library) -> dict[str, Checkpoint]:
    """Usable checkpoints by their path below the library."""
    return {library.place_of(one): one for one in library.usable}


def library_of(experiment: Experiment) -> Library:
    """The checkpoints of an experiment's library; of a remote one those of its base, fetched.

    Raises:
        InputError: as :func:`mashup.scan`; none is of this base, or none could be fetched.
    """
    return _of_base(str(experiment.library), experiment.base)


def twins_of(experiment: Experiment) -> Library:
    """The twins of an experiment's library, as :func:`library_of` gives that."""
    return _of_base(str(experiment.twins), experiment.base)


def _of_base(source: str, base: str) -> Library:
    library = scan(source)
    if not library.source:
        return library
    fit = fitting(library.checkpoints, base, accept_base=False, strict=False)
    return replace(library, checkpoints=fetched(library, fit, strict=False).used)


def _searched(unlisted: Mapping[str, Checkpoint], task: Task) -> dict[str, Seen]:
    """What is known of checkpoints without a list of prompts, from the datasets they name."""
    if not unlisted:
        return {}
    return dict(zip(unlisted, seen_of(unlisted.values(), task), strict=True))


def _left_out(
    task: Task,
    donors: Mapping[str, Collection[str]],
    trained_on: Mapping[str, str],
    searched: Mapping[str, Seen],
) -> dict[str, LeftOut]:
    """Sources that must not be used for a target.

    Args:
        task: the target.
        donors: source to the prompts that it was trained on.
        trained_on: source to the name of its task, for checkpoints of a library. One whose task
            is the target itself, at any number of rows, is left out, as leave-one-out says.
            ``textcls/trec`` and ``trec`` are one task: names often start with folders.
        searched: source to what was found in the datasets that it names, of those without prompts.
    """
    found = {}
    taught = taught_prompts(task.train) if trained_on else frozenset()
    for name, prompts in donors.items():
        own, seen = 0.0, searched.get(name)
        if name in trained_on:
            known = len(taught.intersection(prompts)) / max(1, len(taught))
            share = seen.sample if seen else known
            is_own = _is_same(trained_on[name], task.name)
            own = 1.0 if is_own else share if share >= _OWN_TASK else 0.0
        held = seen.held_out if seen else share_seen(prompts, task)
        found[name] = LeftOut(held, own, seen.by if seen else "")
    return {name: why for name, why in found.items() if why}


def _is_same(one: str, other: str) -> bool:
    """Whether two names are of one task: equal, or the longer one ends with the shorter one."""
    names = [data_of(name).split("/") for name in (one, other)]
    shared = min(map(len, names))
    return names[0][-shared:] == names[1][-shared:]


def _without_donors(
    donors: Mapping[str, Collection[str]], left_out: Mapping[str, Mapping[str, LeftOut]]
) -> list[Problem]:
    """Why no source is left, for each target that has none."""
    return [
        replace(leak(f"{donor}, for {target}", why.held_out), found=why.reason)
        if why.held_out
        else Problem(_OWN, f"{donor}, for {target}", why.reason, "sources of other tasks", _FIX)
        for target, reasons in left_out.items()
        if len(reasons) == len(donors[target])
        for donor, why in reasons.items()
    ]


def notes_on(inputs: Inputs, tasks: Mapping[str, Task], targets: Sequence[str]) -> tuple[str, ...]:
    """What a user must know of the rows before anything runs, a line each."""
    notes = [
        f"{target}: {donor} is left out, {why.reason}"
        for target, reasons in inputs.left_out.items()
        for donor, why in reasons.items()
    ]
    tests = {target: asked_prompts(tasks[target].test) for target in targets}
    for one, other in combinations(targets, 2):
        both = len(tests[one] & tests[other])
        if both and data_of(one) != data_of(other):
            notes.append(
                f"{one} and {other} share {both} test prompts: their results are not independent"
            )
    return (*notes, *inputs.leaks)


def base_key(experiment: Experiment, index: Index, *, sees: bool = False) -> str:
    """Digest of the base's folder, and the precision and attention that it is loaded with.

    Where rows have pictures, its processor is a part of it too.

    Raises:
        InputError: the base cannot be read.
    """
    from mashup.model.base import AUTO, named_device, parse_dtype

    folder = locate(experiment.base)
    checkpoint = read_checkpoint(folder)
    if checkpoint.problem:
        raise InputError(checkpoint.problem)
    dtype = parse_dtype(experiment.dtype, named_device(experiment.device))
    attention = experiment.attn_implementation
    asked = [] if attention == AUTO else [attention]
    asked += [processor_digest(folder)] if sees else []
    return " ".join([base_digest(folder, index), str(dtype).removeprefix("torch."), *asked])
