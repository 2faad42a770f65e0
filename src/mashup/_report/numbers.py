"""Numbers as people read them: sensible digits, true minus signs, "never" where it is never."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mashup._report.study import Reach, Source
from mashup.results.statistics import Difference

NONE = "–"


def percent(share: float) -> str:
    """``71.0 %``. Means of the same runs that were summed in another order read the same."""
    return NONE if math.isnan(share) else f"{round(100 * share, 9):.1f} %"


def loss(value: float) -> str:
    """``0.912``."""
    return NONE if math.isnan(value) else f"{value:.3f}"


def signed(value: float, digits: int = 3) -> str:
    """``+0.120``, ``−0.120``; zero has no sign."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def points(share: float) -> str:
    """A difference of shares in percentage points: ``+4.8``."""
    return signed(round(100 * share, 9), 1)


def count(value: float) -> str:
    """Steps: whole, or with one decimal when a mean is not."""
    return f"{value:.0f}" if math.isclose(value, round(value), abs_tol=0.05) else f"{value:.1f}"


def seconds(value: float) -> str:
    """Whole from ten on, one decimal below; nothing is ``0``."""
    return "0" if value == 0 else f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def rounded(value: float) -> int:
    """Two significant digits, rounded up: more digits of an estimate would mislead."""
    if value < 1:
        return 1
    unit = 10 ** max(0, math.floor(math.log10(value)) - 1)
    return int(math.ceil(value / unit) * unit)


def interval(difference: Difference) -> str:
    """The 95 % interval of a difference of shares, in points: ``[+1.0, +8.6]``."""
    return f"[{points(difference.low)}, {points(difference.high)}]"


def loss_interval(difference: Difference) -> str:
    """The 95 % interval of a difference of losses, in nats: ``[−0.120, +0.041]``."""
    return f"[{signed(difference.low)}, {signed(difference.high)}]"


def against(value: float, scratch: float) -> str:
    """The share of scratch's cost that is needed: ``50 % fewer``, ``58 % more``, ``the same``."""
    if not scratch:
        return "the same" if not value else NONE
    share = round(100 * (value / scratch - 1))
    return "the same" if not share else f"{abs(share)} % {'more' if share > 0 else 'fewer'}"


def reached(reach: Reach | None, unit: str) -> str:
    """``12 / 24`` (the arm's, scratch's), or ``never`` when some run never gets there.

    Args:
        reach: by one of the rules of parity.
        unit: ``steps`` or ``seconds``.
    """
    if reach is None:
        return NONE
    if reach.never:
        return "never"
    mine, theirs = _amounts(reach, unit)
    show = count if unit == "steps" else seconds
    return f"{show(mine)} / {show(theirs)}"


def saving(reach: Reach | None, unit: str) -> str:
    """The same as a share: ``50 % fewer``; for never, in how many of several runs."""
    if reach is None:
        return ""
    if reach.never:
        return f"in {reach.never} of {reach.seeds} seeds" if reach.seeds > 1 else ""
    return against(*_amounts(reach, unit))


def _amounts(reach: Reach, unit: str) -> tuple[float, float]:
    """The arm's and scratch's steps or seconds, where every run gets there."""
    if unit == "steps":
        return reach.steps or 0.0, reach.scratch_steps
    return reach.seconds or 0.0, reach.scratch_seconds


def difference(source: Source) -> str:
    """``−0.120 ± 0.018``: difference to the base and its standard error, where it is known."""
    error = f" ± {source.error:.3f}" if source.error is not None else ""
    return f"{signed(source.difference)}{error}"


def listed(names: Sequence[object]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    texts = [str(name) for name in names]
    return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1] if texts else "")))


def plural(number: int, noun: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def capital(text: str) -> str:
    """``text`` with a large first letter, the rest as it is."""
    return text[:1].upper() + text[1:]
