"""The jobs and cells of one target: scratch, choice, starts, and a run for each arm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mashup.loo.experiment import Experiment, LooArm
from mashup.loo.graph import Cell, Inputs, Plan
from mashup.loo.job import Job
from mashup.loo.probe import FROM_BASE, brief, probe_rate, role_of
from mashup.loo.training import training

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
class Target:
    """What the jobs of one target are made of.

    Attributes:
        variant: whose settings the experiment has, empty for its own.
    """

    plan: Plan
    experiment: Experiment
    inputs: Inputs
    name: str
    donors: Mapping[str, tuple[str, ...]]
    shuffled: Mapping[str, tuple[str, ...]]
    variant: str = ""

    def others(self, runs: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """Of the tasks whose donors this target may use."""
        return {task: keys for task, keys in runs.items() if self.inputs.may_use(task, self.name)}

    @property
    def decides(self) -> dict[str, Any]:
        return {"base": self.inputs.base, "task": self.inputs.tasks[self.name]}

    def about(self, *words: str) -> dict[str, Any]:
        """What a job is called, and whose settings it is done with."""
        told = [self.name, *words, *([self.variant] if self.variant else [])]
        return {"task": self.name, "words": told, "variant": self.variant}


def add_target(target: Target) -> None:
    """Scratch, the other arms, and mashup with the settings of every variant."""
    scratch = _scratch(target)
    if set(target.experiment.arms) - {"scratch"}:
        _arms(target, scratch)
    for name in target.experiment.variants:
        _variant(replace(target, experiment=target.experiment.varied(name), variant=name))


def _arms(target: Target, scratch: Mapping[int, tuple[str, ...]]) -> None:
    wanted = target.experiment.arms
    score = _choice(target)
    mashup = _init(target, "mashup", score)
    for arm in (arm for arm in wanted if arm in INITS):
        for name, init in _inits(target, arm, score, mashup):
            _arm(target, name, init, score if INITS[arm] else None)
    if "merged-untrained" in wanted:
        _untrained(target, mashup, score)
    if "scratch-longer" in wanted:
        _longer(target, scratch, mashup, score)


def _variant(target: Target) -> None:
    """Mashup with other settings, as an arm of the variant's name."""
    score = _choice(target)
    _arm(target, target.variant, _init(target, "mashup", score), score)


def _scratch(target: Target) -> dict[int, tuple[str, ...]]:
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


def _runs(target: Target, seed: int, budget: float, arm: str, init: str | None) -> tuple[str, ...]:
    jobs = (
        training(
            target.experiment, target.inputs, target.name, seed, rate, budget=budget, init=init,
            words=(arm,),
        )
        for rate in target.experiment.learning_rates
    )  # fmt: skip
    return tuple(target.plan.add(job) for job in jobs)


def _choice(target: Target) -> str:
    score = _score(target)
    return _probed(target, score) if target.experiment.choose.probe_steps else score


def _score(target: Target) -> str:
    experiment = target.experiment
    decides = target.decides | {
        "choose": experiment.choose.scoring,
        "split_seed": experiment.split_seed,
        "max_length": experiment.train.max_length,
        "library": _library(target),
    }
    return target.plan.add(Job("score", decides, target.others(target.donors), target.about()))


def _library(target: Target) -> list[str]:
    """Digests of the outside checkpoints that this target may use."""
    left_out = target.inputs.left_out.get(target.name, {})
    return sorted(d for name, d in target.inputs.library.items() if name not in left_out)


def _probed(target: Target, score: str) -> str:
    """A choice by a few steps from each donor and from the base, on top of the ranking."""
    needs = target.others(target.donors)
    needs |= {"score": (score,), FROM_BASE: (_probe(target, "base", None),)}
    for donor in target.others(target.donors):
        init = _init(target, "each-single", score, donor=donor)
        needs |= {role_of(donor): (_probe(target, donor, init),), f"start {donor}": (init,)}
    decides = target.decides | {"k": target.experiment.choose.k}
    return target.plan.add(Job("score", decides, needs, target.about("probed")))


def _probe(target: Target, start: str, init: str | None) -> str:
    experiment = target.experiment
    job = training(
        brief(experiment), target.inputs, target.name, experiment.seeds[0], probe_rate(experiment),
        steps=experiment.choose.probe_steps, init=init, words=("probe", start),
    )  # fmt: skip
    return target.plan.add(job)


def _inits(target: Target, arm: LooArm, score: str, mashup: str) -> list[tuple[str, str]]:
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
    target: Target,
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
    decides |= {"draws": "by target and name"} if arm == "random" else {}  # once by digest
    decides |= {"scales": "beyond 1.5"} if merge.get("scale") == "search" else {}  # once to 1.5
    choose = target.experiment.choose
    decides |= {"k": choose.k, "samples": choose.samples, "rank": target.experiment.rank}
    needs = {"score": (score,)} | target.others(target.donors)
    if arm == "random-init" and mashup:
        needs = {"mashup": (mashup,)}
    if arm == "format-only":
        needs |= {f"shuffled {task}": k for task, k in target.others(target.shuffled).items()}
    about = target.about(arm, *([str(draw or donor)] if draw or donor else []))
    return target.plan.add(Job("init", decides, needs, about, keeps_weights=True))


def _arm(target: Target, name: str, init: str, score: str | None) -> None:
    experiment = target.experiment
    seeds = experiment.seeds if name == "mashup" else experiment.control
    budgets = {1.0, *experiment.budgets} if name == "mashup" else {1.0}
    for seed in seeds:
        for budget in sorted(budgets, reverse=True):
            runs = _runs(target, seed, budget, name, init)
            target.plan.cells.append(Cell(target.name, name, seed, budget, runs, init, score))


def _untrained(target: Target, mashup: str, score: str) -> None:
    """The start of mashup's first run; nothing of its own is run."""
    seed = target.experiment.seeds[0]
    runs = _runs(target, seed, 1.0, "mashup", mashup)
    cell = Cell(target.name, "merged-untrained", seed, 1.0, runs[:1], mashup, score, trained=False)
    target.plan.cells.append(cell)


def _longer(
    target: Target, scratch: Mapping[int, tuple[str, ...]], mashup: str, score: str
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
        target.plan.cells.append(
            Cell(target.name, "scratch-longer", seed, 1.0, (key,), search=scratch[seed])
        )
