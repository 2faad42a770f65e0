"""Jobs that could not be done, and those that wait for them in vain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mashup.errors import InputError, Problem
from mashup.loo.job import Job


@dataclass
class Failures:
    """Problems by job, and the keys of all jobs that will not be done."""

    problems: list[Problem] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)

    def add(self, job: Job, problems: Iterable[Problem]) -> None:
        """A job that could not be done."""
        self.lost.add(job.key)
        self.problems += problems

    def blocks(self, job: Job) -> bool:
        """Whether a job needs one that is lost; it is then lost itself."""
        if not self.lost.intersection(job.before):
            return False
        self.lost.add(job.key)
        return True

    def raise_all(self) -> None:
        """Raises:
        InputError: with every problem, when there is one.
        """
        if self.problems:
            raise InputError(*dict.fromkeys(self.problems))
