"""The ranking of the checkpoints on the sample, as it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST = 30  # rows of a picture or an open table


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


@dataclass(frozen=True)
class Ranking:
    """All checkpoints, best first, and the base that they are compared with.

    Attributes:
        base: None when the file had no row for it.
        criterion: ``loss`` or ``accuracy``: what ranking and differences are of.
    """

    rows: tuple[RankRow, ...]
    base: RankRow | None
    criterion: str

    @property
    def first(self) -> tuple[RankRow, ...]:
        """Those that a picture has room for."""
        return self.rows[:MOST]

    @property
    def rest(self) -> tuple[RankRow, ...]:
        return self.rows[MOST:]

    @property
    def criterion_word(self) -> str:
        """What the differences are of; less is better."""
        return "Loss" if self.criterion == "loss" else "Error rate"

    @property
    def unit(self) -> str:
        """Of the differences."""
        return "nats per answer token" if self.criterion == "loss" else "share of wrong answers"


def make_ranking(scores: Sequence[dict[str, Any]], about: dict[str, Any]) -> Ranking:
    """The rows of ``scores.json``; the base's is the one with the base's digest."""
    base_digest = about.get("base", {}).get("digest", "")
    chosen = set(about.get("chosen", ()))
    base = next((_row(s, False) for s in scores if s["digest"] == base_digest), None)
    rows = [_row(s, s["digest"] in chosen) for s in scores if s["digest"] != base_digest]
    return Ranking(tuple(rows), base, about.get("criterion", "loss"))


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
