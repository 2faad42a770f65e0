"""Choosing by a few steps of training from each donor: the jobs of it, and the choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mashup.loo.experiment import Experiment

#: Role of the probe that starts from the base, which a donor has to beat.
FROM_BASE = "probe"


def probe_rate(experiment: Experiment) -> float:
    """The middle one of the learning rates."""
    rates = sorted(experiment.learning_rates)
    return rates[len(rates) // 2]


def brief(experiment: Experiment) -> Experiment:
    """The same with runs that read the dev rows at their end alone: all that a probe needs."""
    values = {"evaluations": 1, "eval_steps": None, "test_points": "none"}
    train = experiment.train.model_copy(update=values)
    return experiment.model_copy(update={"train": train})


def role_of(donor: str) -> str:
    """Of the probe that starts from ``donor``, among what a choice needs."""
    return f"{FROM_BASE} {donor}"


def choose_by_probe(
    probes: Mapping[str, Mapping[str, Any]],
    ranking: Sequence[Mapping[str, Any]],
    k: int,
    donor_of: Callable[[str], str],
) -> list[str]:
    """Digests of the ``k`` donors with the least dev loss after the steps, best first.

    Only of those that are ahead of the base after as many steps; those that diverged are out.

    Args:
        probes: role to the facts of its run.
        ranking: donors with ``digest`` and ``name``.
        k: how many at most.
        donor_of: digest to the donor's task.
    """

    def loss(role: str) -> float:
        facts = probes[role]
        return float("inf") if facts["diverged"] else float(facts["dev_loss"])

    ends = {one["digest"]: loss(role_of(donor_of(one["digest"]))) for one in ranking}
    ahead = [digest for digest, end in ends.items() if end < loss(FROM_BASE)]
    return sorted(ahead, key=ends.__getitem__)[:k]
