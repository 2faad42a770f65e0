"""The ranking of the checkpoints on the sample, as it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PICTURE, TABLE = 30, 10  # rows that are seen at once


@dataclass(frozen=True)
class RankRow:
    """One checkpoint.

    Attributes:
        difference, error: to the base, and its paired standard error; less is better.
    """

    name: str
    loss: float
    accuracy: float
    difference: float
    error: float
    chosen: bool


_WORDS = {
    "knowledge": ("Missing knowledge", "bits"),
    "loss": ("Loss", "nats per answer token"),
    "accuracy": ("Error rate", "share of wrong answers"),
}


@dataclass(frozen=True)
class Ranking:
    """All checkpoints, best first, and the base that they are compared with.

    Attributes:
        criterion: ``knowledge``, ``loss`` or ``accuracy``: what ranking and differences are of.
    """

    rows: tuple[RankRow, ...]
    base: RankRow
    criterion: str

    @property
    def pictured(self) -> tuple[RankRow, ...]:
        """Those that a picture has room for."""
        return self.rows[:PICTURE]

    @property
    def open(self) -> tuple[RankRow, ...]:
        """Those that a table shows at once."""
        return self.rows[:TABLE]

    @property
    def folded(self) -> tuple[RankRow, ...]:
        return self.rows[TABLE:]

    @property
    def criterion_word(self) -> str:
        """What the differences are of; less is better."""
        return _WORDS[self.criterion][0]

    @property
    def unit(self) -> str:
        """Of the differences."""
        return _WORDS[self.criterion][1]


def make_ranking(scores: Sequence[dict[str, Any]], about: dict[str, Any]) -> Ranking:
    """The rows of ``scores.json``, best first; the last one is the base's."""
    chosen = set(about.get("chosen", ()))
    *ranked, base = scores
    rows = tuple(_row(score, score["digest"] in chosen) for score in ranked)
    return Ranking(rows, _row(base, False), about.get("criterion", "loss"))


def _row(score: dict[str, Any], chosen: bool) -> RankRow:
    error = score.get("standard_error")
    return RankRow(
        score["name"],
        score["loss"],
        score["accuracy"],
        score["difference"],
        float("nan") if error is None else error,
        chosen,
    )
