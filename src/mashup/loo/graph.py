"""The graph of jobs that an experiment is, and the cells of results that they fill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mashup.loo.job import Job


@dataclass(frozen=True)
class Inputs:
    """What an experiment's jobs are keyed by, beside its settings.

    Attributes:
        base: digest of the base's weights, with the precision that it is loaded in.
        tasks: task name to digest of its examples and splits.
        steps: task name to optimizer steps of a whole run.
        library: name to digest of the checkpoints of an outside library.
        left_out: target to the donors that may not be used for it, each with the share of the
            target's dev and test prompts that it was trained on.
    """

    base: str
    tasks: Mapping[str, str]
    steps: Mapping[str, int]
    library: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def may_use(self, donor: str, target: str) -> bool:
        """Whether the run on another task may be used: it has not seen the held-out rows."""
        return donor != target and donor not in self.left_out.get(target, {})


@dataclass(frozen=True)
class Cell:
    """One arm with one seed and budget on one target: a run for each learning rate.

    Attributes:
        runs: keys of the runs, the best of which by dev loss counts.
        init: key of what they start from, None for the base.
        score: key of the ranking that the arm pays for, None when it does not.
        search: keys of the runs by which its learning rate was found, where it has one of its own.
    """

    target: str
    arm: str
    seed: int
    budget: float
    runs: tuple[str, ...]
    init: str | None = None
    score: str | None = None
    trained: bool = True
    search: tuple[str, ...] = ()


@dataclass
class Plan:
    """Jobs by key, each after those that it needs, and the cells that they fill.

    Attributes:
        left_out: as in :class:`Inputs`.
    """

    jobs: dict[str, Job] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    left_out: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def add(self, job: Job) -> str:
        """Put a job in, once; a later wish to keep its weights holds."""
        known = self.jobs.get(job.key)
        if known is None or (job.keeps_weights and not known.keeps_weights):
            self.jobs[job.key] = job if known is None else replace(known, keeps_weights=True)
        return job.key
