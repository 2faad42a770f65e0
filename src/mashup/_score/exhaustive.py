"""Every checkpoint on the whole sample."""

from __future__ import annotations

from collections.abc import Sequence

from mashup._score.candidates import Candidate
from mashup._score.outcome import Outcome
from mashup._score.scorer import Scorer
from mashup.progress import Progress


def exhaustive(scorer: Scorer, candidates: Sequence[Candidate], progress: Progress) -> Outcome:
    """Measure all; the ranking that every other strategy approximates."""
    count = len(scorer.tokens)
    with progress.bar("scoring", count * len(candidates)) as advance:
        return Outcome(tuple(scorer.scores(candidates, count, advance)))
