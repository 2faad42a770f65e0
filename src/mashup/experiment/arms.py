"""Arms: what each starts from, what it pays for, and the jobs that it consists of.

:data:`ADD` has a function for every arm. It adds the arm's jobs and cells to the plan of a target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

from mashup._race.plan import SHARES
from mashup.experiment.jobs import Cell, Inputs, Job, Plan
from mashup.experiment.settings import Experiment
from mashup.results.records import pool_of
from mashup.settings import ARMS, ArmName

#: Arms that were chosen by the ranking, and are charged for it.
PAYS_FOR_SCORING: frozenset[ArmName] = frozenset(
    {"mashup", "race", "best-single", "random-init", "format-only", "merged-untrained"}
)
#: Arms whose jobs are done first, for all targets.
_MAIN = ("scratch", "mashup", "merged-untrained")
#: Role of the probe that starts from the base, which a donor has to beat.
FROM_BASE = "probe"


def role_of(donor: str) -> str:
    """Of the probe that starts from ``donor``, among what a choice needs."""
    return f"{FROM_BASE} {donor}"


@dataclass(frozen=True)
class Target:
    """What the jobs of one target are made of.

    Attributes:
        donors: task to the keys of the runs on it, one a learning rate.
        shuffled: the same of their twins, which learned answers of other rows.
        variant: whose settings the experiment has, empty for its own.
        keeps_weights: whether the weights of all runs stay, also where no job reads them.
    """

    plan: Plan
    experiment: Experiment
    inputs: Inputs
    name: str
    donors: Mapping[str, tuple[str, ...]]
    shuffled: Mapping[str, tuple[str, ...]]
    variant: str = ""
    keeps_weights: bool = False

    @property
    def sources(self) -> list[str]:
        """Names of the checkpoints that this target may start from."""
        names = self.inputs.library if self.experiment.library else self.donors
        return [name for name in names if self.inputs.may_use(name, self.name)]

    def others(self, runs: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """Of the tasks whose donors this target may use."""
        return {task: keys for task, keys in runs.items() if self.inputs.may_use(task, self.name)}

    @property
    def decides(self) -> dict[str, Any]:
        return {"base": self.inputs.base, "task": self.inputs.tasks[self.name]}

    def about(self, *words: str) -> dict[str, Any]:
        """What a job is called, and whose settings it is done with."""
        names = [self.name, *words, *([self.variant] if self.variant else [])]
        left_out = sorted(self.inputs.left_out.get(self.name, ()))
        return {"task": self.name, "words": names, "variant": self.variant, "left_out": left_out}

    @cached_property
    def score(self) -> str:
        """Key of the job that ranks the donors and chooses."""
        score = _score(self)
        return _probed(self, score) if self.experiment.choose.probe_steps else score

    @cached_property
    def mashup(self) -> str:
        """Key of the merge of the chosen."""
        return _init(self, "mashup")

    @property
    def size(self) -> dict[str, tuple[str, ...]]:
        """What runs and inits need to know the rank and the modules that all arms train."""
        return {"size": (self.mashup,)} if self.experiment.is_sized else {}

    @cached_property
    def scratch(self) -> dict[float, dict[int, tuple[str, ...]]]:
        """Budget and seed to keys of the runs from the base."""
        seeds = self.experiment.seeds
        return {b: _runs(self, seeds, b, "scratch", None) for b in _ladder(self.experiment)}


def make_plan(experiment: Experiment, inputs: Inputs, *, keeps_weights: bool = False) -> Plan:
    """All jobs of an experiment: of the main arms of every target first, then arm by arm."""
    plan = Plan(left_out=inputs.left_out)
    donors = {} if experiment.library else _donors(plan, experiment, inputs)
    shuffled = {}
    if "format-only" in experiment.arms and not experiment.library:
        shuffled = _donors(plan, experiment, inputs, shuffled=True)
    for name in experiment.wanted:
        own = experiment.of_target(name)
        target = Target(plan, own, inputs, name, donors, shuffled, "", keeps_weights)
        wanted = set(own.arms) - {"scratch"}
        if not wanted:
            target = replace(target, experiment=_own_size(own))
        _scratch(target)
        for arm in sorted(wanted, key=_place(own)):
            ADD[arm](target, arm)
        for variant in own.variants:
            varied = replace(target, experiment=own.varied(variant), variant=variant)
            _cells(varied, variant, varied.mashup, varied.score)
    return in_stages(plan, experiment)


def in_stages(plan: Plan, experiment: Experiment) -> Plan:
    """The plan with its jobs in the order of the stages in which they are needed.

    First come the main arms of all targets, the smallest budget first, since a short run of every
    target says more than a long run of one. Each other arm is a stage of its own, after the main
    arms of its budget. So an experiment that is not finished has its main part. A job is in the
    earliest stage that needs it, directly or through other jobs, so that it still stands after
    those that it needs.
    """
    others = [arm for arm in (*experiment.arms, *experiment.variants) if arm not in _MAIN]
    places = {arm: place for place, arm in enumerate(others, 1)}
    order = [
        (cell.budget if cell.trained else 0.0, places.get(pool_of(cell.arm), 0))
        for cell in plan.cells
    ]
    stages = {one: place for place, one in enumerate(sorted(set(order)))}
    cells = [replace(c, stage=stages[one]) for c, one in zip(plan.cells, order, strict=True)]
    of_job: dict[str, int] = {}

    def note(key: str, stage: int) -> None:
        if of_job.get(key, stage + 1) > stage:
            of_job[key] = stage
            for before in plan.jobs[key].before:
                note(before, stage)

    for cell in cells:
        for key in cell.keys:
            note(key, cell.stage)
    jobs = sorted(plan.jobs.items(), key=lambda one: of_job.get(one[0], 0))
    return replace(plan, jobs=dict(jobs), cells=cells)


def _own_size(experiment: Experiment) -> Experiment:
    """For scratch alone: there is no merge whose rank it could train."""
    return experiment.model_copy(update={"match_rank": False}) if experiment.library else experiment


def _place(experiment: Experiment) -> Callable[[ArmName], tuple[bool, int]]:
    """Arms as they are asked for; those that only look at other arms come last."""
    last = ("merged-untrained", "scratch-longer")
    return lambda arm: (arm in last, experiment.arms.index(arm))


def _donors(
    plan: Plan, experiment: Experiment, inputs: Inputs, *, shuffled: bool = False
) -> dict[str, tuple[str, ...]]:
    """Task to keys of the runs on it, one a learning rate: from the best of these others start."""
    words = ("shuffled",) if shuffled else ()
    needed = [n for n in experiment.sources if any(inputs.may_use(n, t) for t in experiment.wanted)]
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


def _scratch(target: Target, arm: ArmName = "scratch") -> None:
    """From the base; with every budget."""
    for seed in target.experiment.seeds:
        for budget, runs in target.scratch.items():
            target.plan.cells.append(Cell(target.name, arm, seed, budget, runs[seed]))


def _merged(target: Target, arm: ArmName) -> None:
    """One start for all seeds."""
    init = target.mashup if arm == "mashup" else _init(target, arm)
    _cells(target, arm, init, target.score if arm in PAYS_FOR_SCORING else None)


def _draws(target: Target, arm: ArmName) -> None:
    """``k`` donors drawn without looking at scores, several times."""
    for draw in range(1, target.experiment.draws + 1):
        _cells(target, f"{arm}-{draw}", _init(target, arm, draw=draw))


def _pairs(target: Target, arm: ArmName) -> None:
    """Two donors drawn blindly for each seed."""
    for seed in target.experiment.control:
        _cells(target, arm, _init(target, arm, draw=seed), seeds=(seed,))


def _singles(target: Target, arm: ArmName) -> None:
    """Every donor alone."""
    for donor in target.sources:
        _cells(target, f"single-{donor}", _init(target, arm, donor=donor))


def _untrained(target: Target, arm: ArmName) -> None:
    """The start of mashup's runs; where these do not read the test rows at step 0, of one step."""
    runs = _runs(target, target.experiment.seeds, 1.0, "mashup", target.mashup)
    starts = {seed: keys[:1] for seed, keys in runs.items()}
    if target.experiment.train.test_points != "all":
        starts = dict.fromkeys(starts, (_one_step(target, arm),))
    for seed in target.experiment.control:
        start = starts[seed]
        cell = Cell(target.name, arm, seed, 1.0, start, target.mashup, target.score, trained=False)
        target.plan.cells.append(cell)


def _one_step(target: Target, arm: ArmName) -> str:
    """The shortest run from mashup's start that reads the test rows at step 0."""
    job = _brief(target, "all", steps=1, init=target.mashup, words=(arm,), size=target.size)
    about = dict(job.about) | {"words": [target.name, arm], "folder": "start"}
    return target.plan.add(replace(job, about=about, keeps_weights=target.keeps_weights))


def _longer(target: Target, arm: ArmName) -> None:
    """Scratch with the seconds that mashup spends before its first step, as more steps."""
    for seed in target.experiment.control:
        job = training(
            target.experiment, target.inputs, target.name, seed,
            target.experiment.learning_rates[0], words=(arm,),
        )  # fmt: skip
        scratch = target.scratch[1.0][seed]
        needs = {"scratch": scratch, "score": (target.score,), "mashup": (target.mashup,)}
        about = dict(job.about) | {
            "words": [target.name, arm, f"seed {seed}"],
            "folder": f"longer-seed{seed}",
        }
        decides = dict(job.decides) | {"longer": True}
        longer = Job("train", decides, needs | target.size, about, target.keeps_weights)
        key = target.plan.add(longer)
        target.plan.cells.append(Cell(target.name, arm, seed, 1.0, (key,), search=scratch))


def _race(target: Target, arm: ArmName) -> None:
    """Scratch and starts of :mod:`mashup._race.starts` at every rate; most are given up early.

    Sources of the least loss take part where mashup has chosen none.
    """
    experiment, starts = target.experiment, {"merge": target.mashup}
    starts |= {name: _init(target, name) for name in ("best-single", "least-loss")}
    rates = experiment.learning_rates
    for seed, budget in product(experiment.seeds, _control_ladder(experiment)):
        job = training(
            experiment, target.inputs, target.name, seed, rates[0], budget=budget, words=(arm,),
            size=target.size, keeps_weights=target.keeps_weights,
        )  # fmt: skip
        job = replace(
            job,
            decides=dict(job.decides) | {"race": list(rates), "rungs": list(SHARES)},
            needs=dict(job.needs) | {f"start {name}": (key,) for name, key in starts.items()},
            about=_without_rate(job, f"seed{seed}-lr{rates[0]!r}", f"race-seed{seed}"),
        )
        runs = (target.plan.add(job),)
        target.plan.cells.append(Cell(target.name, arm, seed, budget, runs, score=target.score))


#: Arm to the function that adds its jobs and cells; scratch is always there.
ADD: Mapping[ArmName, Callable[[Target, ArmName], None]] = {
    **dict.fromkeys(
        ("mashup", "best-single", "least-loss", "average-all", "random-init", "format-only"),
        _merged,
    ),
    "race": _race,
    "random": _draws,
    "blind": _draws,
    "random-two": _pairs,
    "each-single": _singles,
    "merged-untrained": _untrained,
    "scratch-longer": _longer,
}
assert {"scratch", *ADD} == set(ARMS)


def _cells(
    target: Target,
    name: str,
    init: str,
    score: str | None = None,
    seeds: Sequence[int] | None = None,
) -> None:
    """Runs from one start; of mashup with its seeds and budgets, of others those of controls."""
    is_mashup = name == "mashup"
    if seeds is None:
        seeds = target.experiment.seeds if is_mashup else target.experiment.control
    budgets = _ladder(target.experiment) if is_mashup else _control_ladder(target.experiment)
    rungs = {budget: _runs(target, seeds, budget, name, init) for budget in budgets}
    for seed in seeds:
        for budget, runs in rungs.items():
            target.plan.cells.append(Cell(target.name, name, seed, budget, runs[seed], init, score))


def _ladder(experiment: Experiment) -> Iterable[float]:
    return sorted({1.0, *experiment.budgets}, reverse=True)


def _control_ladder(experiment: Experiment) -> Iterable[float]:
    """Budgets of the arms other than scratch and mashup; a target may have fewer budgets."""
    ladder = set(_ladder(experiment))
    return [budget for budget in experiment.control_budgets if budget in ladder] or [1.0]


def _runs(
    target: Target, seeds: Sequence[int], budget: float, arm: str, init: str | None
) -> dict[int, tuple[str, ...]]:
    """Seed to keys of the runs of a cell, one a learning rate.

    Where the rate is searched with some seeds alone, the others have one run at the rate that
    these have found.
    """
    rates = target.experiment.learning_rates
    searching = seeds[: target.experiment.search_seeds]

    def run(seed: int, place: int) -> Job:
        job = training(
            target.experiment, target.inputs, target.name, seed, rates[place], budget=budget,
            init=init, words=(arm,), size=target.size, keeps_weights=target.keeps_weights,
        )  # fmt: skip
        if init is None or target.variant or not is_like_scratch:
            return job
        same: dict[str, str | None] = {}
        same[target.scratch[budget][seed][place]] = None  # where there is nothing to merge
        if mashup:  # where the best source is all that mashup starts from
            same[mashup[seed][place]] = target.mashup
        return replace(job, about=dict(job.about) | {"same": same})

    own, mashup = target.experiment.seeds, dict[int, tuple[str, ...]]()
    few = target.experiment.search_seeds  # None: every seed searches
    is_like_scratch = few is None or searching == own[:few]  # the same seeds search
    if arm == "best-single" and "mashup" in target.experiment.arms and is_like_scratch:
        mashup = _runs(target, own, budget, "mashup", target.mashup)
    found = {
        seed: tuple(target.plan.add(run(seed, place)) for place in range(len(rates)))
        for seed in searching
    }
    search = tuple(key for keys in found.values() for key in keys)
    for seed in seeds[len(searching) :]:
        found[seed] = (target.plan.add(_searched(run(seed, 0), rates, search)),)
    return found


def _searched(job: Job, rates: Sequence[float], search: tuple[str, ...]) -> Job:
    """The run at the rate that others have found."""
    return replace(
        job,
        decides=dict(job.decides) | {"searched": list(rates)},
        needs=dict(job.needs) | {"search": search},
        about=_without_rate(job, f"lr{rates[0]!r}", "searched"),
    )


def _without_rate(job: Job, part: str, instead: str) -> dict[str, Any]:
    """What tables and folders call a run whose rate is found later; ``part`` of the folder goes."""
    words = [word for word in job.about["words"] if not word.startswith("rate ")]
    folder = job.about["folder"].replace(part, instead)
    return dict(job.about) | {"words": words, "folder": folder}


def _score(target: Target) -> str:
    """The ranking of the donors on the target's sample."""
    experiment = target.experiment
    left_out = target.inputs.left_out.get(target.name, {})
    decides = target.decides | {
        "choose": experiment.choose.scoring,
        "split_seed": experiment.split_seed,
        "max_length": experiment.train.max_length,
        "library": sorted(d for n, d in target.inputs.library.items() if n not in left_out),
    }
    return target.plan.add(Job("score", decides, target.others(target.donors), target.about()))


def _probed(target: Target, score: str) -> str:
    """A choice by a few steps from each donor and from the base, on top of the ranking."""
    needs = target.others(target.donors)
    needs |= {"score": (score,), FROM_BASE: (_probe(target, "base", None),)}
    for donor in target.others(target.donors):
        init = _init(target, "each-single", score=score, donor=donor)
        needs |= {role_of(donor): (_probe(target, donor, init),), f"start {donor}": (init,)}
    decides = target.decides | {"k": target.experiment.choose.k}
    return target.plan.add(Job("score", decides, needs, target.about("probed")))


def _probe(target: Target, start: str, init: str | None) -> str:
    """A few steps at the middle learning rate; the dev rows are read at their end alone."""
    steps = target.experiment.choose.probe_steps
    return target.plan.add(_brief(target, "none", steps=steps, init=init, words=("probe", start)))


def _brief(target: Target, test_points: str, **more: Any) -> Job:
    """A run with few evaluations, at the middle learning rate and with the first seed."""
    values = {"evaluations": 1, "eval_steps": None, "test_points": test_points}
    train = target.experiment.train.model_copy(update=values)
    brief = target.experiment.model_copy(update={"train": train})
    rates = sorted(brief.learning_rates)
    rate = rates[len(rates) // 2]
    return training(brief, target.inputs, target.name, brief.seeds[0], rate, **more)


def _init(
    target: Target, arm: ArmName, *, draw: int = 0, donor: str | None = None, score: str = ""
) -> str:
    """What an arm starts from.

    Args:
        target: whose arm it is.
        arm: decides which checkpoints are merged.
        draw: of an arm that is drawn.
        donor: of an arm that starts from one donor.
        score: key of the ranking; by default that of the target.
    """
    experiment = target.experiment
    merge = experiment.merge.options() | ({"fold": True} if experiment.merge.fold else {})
    decides = target.decides | {"arm": arm, "draw": draw, "merge": merge}
    decides |= {"full": experiment.train.is_full}
    decides |= {"donor": donor} if donor else {}
    decides |= {"draws": "by target and name"} if arm == "random" else {}  # once by digest
    if arm == "blind":
        decides |= {"relatives": list(experiment.tasks[target.name].relatives)}
    choose = experiment.choose
    if merge.get("scale") == "search":  # once up to 1.5; once always by loss
        by_loss = choose.criterion == "loss"
        decides |= {"scales": "beyond 1.5" if by_loss else "by the criterion"}
    decides |= {"k": choose.k, "samples": choose.samples, "rank": experiment.rank}
    needs = {"score": (score or target.score,)} | target.others(target.donors)
    if arm == "random-init":
        needs = {"mashup": (target.mashup,)}
    elif arm != "mashup":
        needs |= target.size
    if arm == "format-only":
        needs |= {f"shuffled {task}": k for task, k in target.others(target.shuffled).items()}
        decides |= {"twins": sorted(target.inputs.twins.values())} if experiment.twins else {}
    about = target.about(arm, *([str(draw or donor)] if draw or donor else []))
    return target.plan.add(Job("init", decides, needs, about, keeps_weights=True))


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
    size: Mapping[str, tuple[str, ...]] | None = None,
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
        steps: how many instead of all that the task has.
        init: key of the job that it starts from, None for the base.
        words: what tables call it, between task and seed.
        shuffled: whether it learns answers of other rows.
        donor: whether others start from it: it then has the adapter's own rank.
        size: the job whose merge has the rank to train, where the settings do not say it.
        keeps_weights: whether a later job reads its weights.
    """
    if steps is None and (budget != 1.0 or experiment.tasks[task].max_steps):
        steps = max(1, round(budget * inputs.steps[task]))
    settings = experiment.settings(seed=seed, rate=rate, steps=steps, donor=donor)
    decides = {
        "base": inputs.base,
        "task": inputs.tasks[task],
        "settings": settings.model_dump(),
        "shuffled": shuffled,
    }
    rung = budget != 1.0
    shown = [task, *words, f"seed {seed}", f"rate {rate:g}", *([f"budget {budget:g}"] * rung)]
    folder = f"seed{seed}-lr{rate!r}" + f"-budget{budget:g}" * rung
    about = {"task": task, "words": shown, "folder": folder}
    needs = ({"init": (init,)} if init else {}) | dict(size or {})
    return Job("train", decides, needs, about, keeps_weights)
