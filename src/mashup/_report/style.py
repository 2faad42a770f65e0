"""Colours and marks of the arms: Okabe and Ito's palette, for light and for dark pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Arm to its mark and its colours on light and on dark pages.
_ARMS = {
    "scratch": ("s", "#6b7278", "#a7adb4"),
    "mashup": ("o", "#0072b2", "#56b4e9"),
    "best-single": ("D", "#d55e00", "#f0854a"),
    "random-two": ("^", "#009e73", "#2fc79b"),
    "random": ("^", "#009e73", "#2fc79b"),
    "merged-untrained": ("*", "#b0538b", "#e09ac4"),
    "scratch-longer": ("P", "#33383e", "#dfe3e8"),
    "average-all": ("v", "#b07d00", "#e6b422"),
    "random-init": ("X", "#7a5195", "#b79ad1"),
    "format-only": ("<", "#4c6a00", "#a3c24a"),
    "each-single": (">", "#3f8fbf", "#8ecdf2"),
}
_SPARE_MARKERS = "vP<>X"
#: Lines of arms without a colour of their own, when their few colours have gone round.
_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))


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
    arms={name: light for name, (_, light, _) in _ARMS.items()},
    spare=("#b07d00", "#3f8fbf", "#7a5195", "#4c6a00"),
)
DARK = Theme(
    paper="#16191d",
    ink="#e8eaed",
    muted="#9aa1a9",
    grid="#2b3036",
    arms={name: dark for name, (_, _, dark) in _ARMS.items()},
    spare=("#e6b422", "#8ecdf2", "#b79ad1", "#a3c24a"),
)


def dash(arm: str, place: int = 0) -> Any:
    """matplotlib's style for the line of an arm: another one where its colour comes again."""
    return "-" if arm in _ARMS else _DASHES[place // len(LIGHT.spare) % len(_DASHES)]


def marker(arm: str, place: int = 0) -> str:
    """matplotlib's letter for the mark of an arm."""
    return _ARMS[arm][0] if arm in _ARMS else _SPARE_MARKERS[place % len(_SPARE_MARKERS)]
