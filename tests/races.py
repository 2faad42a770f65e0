"""A sample of known losses in place of a model: what strategies see of a scorer."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mashup._score.candidates import Candidate
from mashup._score.scores import Score, Scores
from mashup.checkpoint import Checkpoint
from mashup.evaluate.evaluate import Evaluation


def score_in(scores: Scores, path: Path) -> Score:
    """The score of the checkpoint in ``path``."""
    return next(one for one in scores.ranking if one.path == path)


def candidate(name: str, digest: str | None = None) -> Candidate:
    return Candidate(Checkpoint(Path(name), "lora"), digest or name, np.zeros(1024, np.float32))


def scored(one: Candidate, losses: np.ndarray, tokens: int = 1) -> Score:
    counts = np.full(len(losses), tokens)
    return Score(one.checkpoint, Evaluation(losses, counts, losses < 1), one.digest)


@dataclass
class KnownLosses:
    """Stands for a scorer: ``losses`` (checkpoints, examples), one row a candidate."""

    losses: np.ndarray
    spent: int = 0
    seen: dict = field(default_factory=dict)

    @property
    def tokens(self) -> range:
        return range(self.losses.shape[1])

    @property
    def candidates(self) -> list[Candidate]:
        return [candidate(f"c{n:03}") for n in range(len(self.losses))]

    def scores(self, candidates, count, advance=lambda parts=1: None):
        made = []
        for one in candidates:
            known = self.seen.get(one.digest, 0)
            self.seen[one.digest] = max(known, count)
            self.spent += max(0, count - known)
            advance(count)
            made.append(scored(one, self.losses[int(one.digest[1:]), :count]))
        return made
