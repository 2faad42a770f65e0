"""How well what is written holds the exact merge, as squared norms that can be added."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Energy:
    """Squared norms: of the exact delta, of what the rank keeps, of the final error."""

    total: float = 0.0
    kept: float = 0.0
    error: float = 0.0

    def __add__(self, other: Energy) -> Energy:
        return Energy(self.total + other.total, self.kept + other.kept, self.error + other.error)
