"""Colours, marks and dashes: Okabe and Ito's palette, for light and for dark pages.

A colour has a name. Drawings carry the names; a page resolves them by CSS variables, a file by
:data:`LIGHT`. So one drawing serves light pages, dark pages and files.
"""

from __future__ import annotations

#: Name of a colour to its values on light and on dark pages.
PALETTE = {
    "paper": ("#ffffff", "#16191d"),
    "ink": ("#1c2024", "#e8eaed"),
    "muted": ("#60666d", "#9aa1a9"),
    "line": ("#e4e7ea", "#2b3036"),
    "better": ("#00694a", "#4fd1a5"),
    "worse": ("#a8400a", "#f0986a"),
    "chosen": ("#005a8c", "#79c4f0"),
    "scratch": ("#6b7278", "#a7adb4"),
    "mashup": ("#0072b2", "#56b4e9"),
    "best-single": ("#d55e00", "#f0854a"),
    "random": ("#009e73", "#2fc79b"),
    "untrained": ("#b0538b", "#e09ac4"),
    "longer": ("#33383e", "#dfe3e8"),
    "average": ("#b07d00", "#e6b422"),
    "init": ("#7a5195", "#b79ad1"),
    "format": ("#4c6a00", "#a3c24a"),
    "single": ("#3f8fbf", "#8ecdf2"),
}
LIGHT = {name: light for name, (light, _) in PALETTE.items()}

#: Outlines of marks, in half sizes around the centre; a mark without one is a circle.
SHAPES = {
    "circle": (),
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "diamond": ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    "up": ((0, -1.15), (1.15, 0.95), (-1.15, 0.95)),
    "down": ((0, 1.15), (1.15, -0.95), (-1.15, -0.95)),
    "left": ((-1.15, 0), (0.95, -1.15), (0.95, 1.15)),
    "right": ((1.15, 0), (-0.95, -1.15), (-0.95, 1.15)),
    "star": (
        *((0, -1.7), (0.4, -0.55), (1.62, -0.53), (0.65, 0.21), (1.0, 1.38)),
        *((0, 0.68), (-1.0, 1.38), (-0.65, 0.21), (-1.62, -0.53), (-0.4, -0.55)),
    ),
    "plus": (
        *((-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4)),
        *((0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4)),
    ),
}
_ARMS = {
    "scratch": ("square", "scratch"),
    "mashup": ("circle", "mashup"),
    "race": ("plus", "init"),
    "best-single": ("diamond", "best-single"),
    "least-loss": ("up", "average"),
    "random-two": ("up", "random"),
    "random": ("up", "random"),
    "blind": ("down", "random"),
    "merged-untrained": ("star", "untrained"),
    "scratch-longer": ("plus", "longer"),
    "average-all": ("down", "average"),
    "random-init": ("right", "init"),
    "format-only": ("left", "format"),
    "each-single": ("right", "single"),
}
_SPARE_COLOURS = ("average", "single", "init", "format")
_SPARE_SHAPES = ("down", "plus", "left", "right", "up")
#: Lines of arms without a colour of their own, when their few colours have gone round.
_DASHES = ("", "5 1.5", "1 1.2", "5 1.5 1 1.5")


def colour_of(arm: str, place: int) -> str:
    """Name of an arm's colour; its place among the arms decides if it has none of its own."""
    return _ARMS[arm][1] if arm in _ARMS else _SPARE_COLOURS[place % len(_SPARE_COLOURS)]


def shape_of(arm: str, place: int) -> str:
    """Name of an arm's mark, in :data:`SHAPES`."""
    return _ARMS[arm][0] if arm in _ARMS else _SPARE_SHAPES[place % len(_SPARE_SHAPES)]


def dash_of(arm: str, place: int) -> str:
    """Lengths of strokes and gaps in widths of the line, as SVG has them; empty is solid."""
    return "" if arm in _ARMS else _DASHES[place // len(_SPARE_COLOURS) % len(_DASHES)]
