"""From an experiment to its jobs: the graph, before anything is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mashup.loo.experiment import Experiment, LooArm
from mashup.loo.job import Job

#: Arms that start from an init, and whether choosing it needs the ranking.
INITS: Mapping[LooArm, bool] = {
    "mashup": True,
    "best-single": True,
    "random": False,
    "average-all": False,
    "random-init": True,
    "format-only": True,
    "each-single": False,
}


@dataclass(frozen=True)
class Inputs:
    """What an experiment's jobs are keyed by, beside its settings.

    Attributes:
        base: digest of the base's weights, with the precision that it is loaded in.
        tasks: task name to digest of its examples and splits.
        steps: task name to optimizer steps of a whole run.
        library: digests of the checkpoints of an outside library.
    """

    base: str
    tasks: Mapping[str, str]
    steps: Mapping[str, int]
    library: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One arm with one seed and budget on one target: a run for each learning rate.

    Attributes:
        runs: keys of the runs, the best of which by dev loss counts.
        init: key of what they start from, None for the base.
        score: key of the ranking that the arm pays for, None when it does not.
    """

    target: str
    arm: str
    seed: int
    budget: float
    runs: tuple[str, ...]
    init: str | None = None
    score: str | None = None
    trained: bool = True


@dataclass
class Plan:
    """Jobs by key, each after those that it needs, and the cells that they fill."""

    jobs: dict[str, Job] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)

    def add(self, job: Job) -> str:
        """Put a job in, once; a later wish to keep its weights holds."""
        known = self.jobs.get(job.key)
        if known is None or (job.keeps_weights and not known.keeps_weights):
            self.jobs[job.key] = job if known is None else replace(known, keeps_weights=True)
        return job.key


def make_plan(experiment: Experiment, inputs: Inputs) -> Plan:
    """All jobs of an experiment: donors first, then target by target."""
    plan = Plan()
    donors = {} if experiment.library else _donors(plan, experiment, inputs)
    shuffled = {}
    if "format-only" in experiment.arms:
        shuffled = _donors(plan, experiment, inputs, shuffled=True)
    for target in experiment.wanted:
        _target(_Target(plan, experiment, inputs, target, donors, shuffled))
    return plan


def _donors(
    plan: Plan, experiment: Experiment, inputs: Inputs, *, shuffled: bool = False
) -> dict[str, tuple[str, ...]]:
    """Task to keys of the runs on it, one a learning rate: from the best of these others start."""
    words = ("shuffled",) if shuffled else ()
    needed = [n for n in experiment.tasks if any(n != t for t in experiment.wanted)]
    return {
        task: tuple(
            plan.add(
                training(
                    experiment, inputs, task, experiment.seed_of(task), rate, words=words,
                    shuffled=shuffled, donor=True, keeps_weights=True,
                )
            )
            for rate in experiment.donor_rates
        )
        for task in needed
    }  # fmt: skip


def training(
    experiment: Experiment,
    inputs: Inputs,
    task: str,
    seed: int,
    rate: float,
    *,
    budget: float = 1.0,
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
        init: key of the job that it starts from, None for the base.
        words: what tables call it, between task and seed.
        shuffled: whether it learns answers of other rows.
        donor: whether others start from it: it then has the adapter's own rank.
        keeps_weights: whether a later job reads its weights.
    """
    steps = max(1, round(budget * inputs.steps[task])) if budget != 1.0 else None
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


@dataclass(frozen=True)
class _Target:
    """What the jobs of one target are made of."""

    plan: Plan
    experiment: Experiment
    inputs: Inputs
    name: str
    donors: Mapping[str, tuple[str, ...]]
    shuffled: Mapping[str, tuple[str, ...]]

    def others(self, runs: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        return {task: keys for task, keys in runs.items() if task != self.name}

    @property
    def decides(self) -> dict[str, Any]:
        return {"base": self.inputs.base, "task": self.inputs.tasks[self.name]}


def _target(target: _Target) -> None:
    wanted = target.experiment.arms
    scratch = _scratch(target)
    if set(wanted) == {"scratch"}:
        return
    score = _score(target)
    mashup = _init(target, "mashup", score)
    for arm in (arm for arm in wanted if arm in INITS):
        for name, init in _inits(target, arm, score, mashup):
            _arm(target, arm, name, init, score if INITS[arm] else None)
    if "merged-untrained" in wanted:
        _untrained(target, mashup, score)
    if "scratch-longer" in wanted:
        _longer(target, scratch, mashup, score)


def _scratch(target: _Target) -> dict[int, tuple[str, ...]]:
    """Seed to keys of the whole runs from the base; the ladder's beside them."""
    found = {}
    experiment = target.experiment
    for seed in experiment.seeds:
        for budget in sorted({1.0, *experiment.budgets}, reverse=True):
            runs = _runs(target, seed, budget, "scratch", None)
            target.plan.cells.append(Cell(target.name, "scratch", seed, budget, runs))
            if budget == 1.0:
                found[seed] = runs
    return found


def _runs(target: _Target, seed: int, budget: float, arm: str, init: str | None) -> tuple[str, ...]:
    jobs = (
        training(
            target.experiment, target.inputs, target.name, seed, rate, budget=budget, init=init,
            words=(arm,),
        )
        for rate in target.experiment.learning_rates
    )  # fmt: skip
    return tuple(target.plan.add(job) for job in jobs)


def _score(target: _Target) -> str:
    experiment = target.experiment
    decides = target.decides | {
        "choose": experiment.choose.model_dump(),
        "split_seed": experiment.split_seed,
        "max_length": experiment.train.max_length,
        "library": list(target.inputs.library),
    }
    about = {"task": target.name, "words": [target.name]}
    return target.plan.add(Job("score", decides, target.others(target.donors), about))


def _inits(target: _Target, arm: LooArm, score: str, mashup: str) -> list[tuple[str, str]]:
    """Names of an arm's variants and the inits that they start from."""
    if arm == "mashup":
        return [(arm, mashup)]
    if arm == "random":
        draws = range(1, target.experiment.draws + 1)
        return [(f"random-{draw}", _init(target, arm, score, draw=draw)) for draw in draws]
    if arm == "each-single":
        donors = target.others(target.donors)
        return [(f"single-{donor}", _init(target, arm, score, donor=donor)) for donor in donors]
    return [(arm, _init(target, arm, score, mashup=mashup))]


def _init(
    target: _Target,
    arm: LooArm,
    score: str,
    *,
    draw: int = 0,
    donor: str | None = None,
    mashup: str | None = None,
) -> str:
    merge = target.experiment.merge.options()
    merge |= {"fold": True} if target.experiment.merge.fold else {}
    full = target.experiment.train.is_full
    decides = target.decides | {"arm": arm, "draw": draw, "merge": merge, "full": full}
    decides |= {"donor": donor} if donor else {}
    choose = target.experiment.choose
    decides |= {"k": choose.k, "samples": choose.samples, "rank": target.experiment.rank}
    needs = {"score": (score,)} | target.others(target.donors)
    if arm == "random-init" and mashup:
        needs = {"mashup": (mashup,)}
    if arm == "format-only":
        needs |= {f"shuffled {task}": k for task, k in target.others(target.shuffled).items()}
    words = [target.name, arm, *([str(draw or donor)] if draw or donor else [])]
    about = {"task": target.name, "words": words}
    return target.plan.add(Job("init", decides, needs, about, keeps_weights=True))


def _arm(target: _Target, arm: LooArm, name: str, init: str, score: str | None) -> None:
    experiment = target.experiment
    seeds = experiment.seeds if arm == "mashup" else experiment.control
    budgets = {1.0, *experiment.budgets} if arm == "mashup" else {1.0}
    for seed in seeds:
        for budget in sorted(budgets, reverse=True):
            runs = _runs(target, seed, budget, name, init)
            target.plan.cells.append(Cell(target.name, name, seed, budget, runs, init, score))


def _untrained(target: _Target, mashup: str, score: str) -> None:
    """The start of mashup's first run; nothing of its own is run."""
    seed = target.experiment.seeds[0]
    runs = _runs(target, seed, 1.0, "mashup", mashup)
    cell = Cell(target.name, "merged-untrained", seed, 1.0, runs[:1], mashup, score, trained=False)
    target.plan.cells.append(cell)


def _longer(
    target: _Target, scratch: Mapping[int, tuple[str, ...]], mashup: str, score: str
) -> None:
    """Scratch with the seconds that mashup spends before its first step, as more steps."""
    for seed in target.experiment.control:
        job = training(
            target.experiment, target.inputs, target.name, seed,
            target.experiment.learning_rates[0], words=("scratch-longer",),
        )  # fmt: skip
        needs = {"scratch": scratch[seed], "score": (score,), "mashup": (mashup,)}
        decides = dict(job.decides) | {"longer": True}
        words = [target.name, "scratch-longer", f"seed {seed}"]
        longer = Job("train", decides, needs, dict(job.about) | {"words": words})
        key = target.plan.add(longer)
        target.plan.cells.append(Cell(target.name, "scratch-longer", seed, 1.0, (key,)))
