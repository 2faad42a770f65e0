"""From an experiment to its jobs: the graph, before anything is done."""

from __future__ import annotations

from mashup.loo.experiment import Experiment
from mashup.loo.graph import Inputs, Plan
from mashup.loo.target import Target, add_target
from mashup.loo.training import training


def make_plan(experiment: Experiment, inputs: Inputs) -> Plan:
    """All jobs of an experiment: donors first, then target by target."""
    plan = Plan(left_out=inputs.left_out)
    donors = {} if experiment.library else _donors(plan, experiment, inputs)
    shuffled = {}
    if "format-only" in experiment.arms:
        shuffled = _donors(plan, experiment, inputs, shuffled=True)
    for target in experiment.wanted:
        add_target(Target(plan, experiment, inputs, target, donors, shuffled))
    return plan


def _donors(
    plan: Plan, experiment: Experiment, inputs: Inputs, *, shuffled: bool = False
) -> dict[str, tuple[str, ...]]:
    """Task to keys of the runs on it, one a learning rate: from the best of these others start."""
    words = ("shuffled",) if shuffled else ()
    needed = [n for n in experiment.tasks if any(inputs.may_use(n, t) for t in experiment.wanted)]
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
