"""Colours and marks of the arms: Okabe and Ito's palette, for light and for dark pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_ARMS = ("scratch", "mashup", "best-single", "random-two", "merged-untrained")
_MARKERS = dict(zip(_ARMS, "soD^*", strict=True))
_SPARE_MARKERS = "vP<>X"


@dataclass(frozen=True)
class Theme:
    """Colours of a picture, and one for each arm."""

    paper: str
    ink: str
    muted: str
    grid: str
    arms: Mapping[str, str]
    spare: tuple[str, ...]

    def colour(self, arm: str, place: int = 0) -> str:
        """Of an arm; ``place`` in the order of arms decides for those without a colour."""
        return self.arms.get(arm) or self.spare[place % len(self.spare)]


LIGHT = Theme(
    paper="#ffffff",
    ink="#1c2024",
    muted="#60666d",
    grid="#e4e7ea",
    arms=dict(zip(_ARMS, ("#6b7278", "#0072b2", "#d55e00", "#009e73", "#b0538b"), strict=True)),
    spare=("#b07d00", "#3f8fbf", "#7a5195", "#4c6a00"),
)
DARK = Theme(
    paper="#16191d",
    ink="#e8eaed",
    muted="#9aa1a9",
    grid="#2b3036",
    arms=dict(zip(_ARMS, ("#a7adb4", "#56b4e9", "#f0854a", "#2fc79b", "#e09ac4"), strict=True)),
    spare=("#e6b422", "#8ecdf2", "#b79ad1", "#a3c24a"),
)


def marker(arm: str, place: int = 0) -> str:
    """matplotlib's letter for the mark of an arm."""
    return _MARKERS.get(arm) or _SPARE_MARKERS[place % len(_SPARE_MARKERS)]
