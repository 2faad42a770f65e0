"""Parity by the budget ladder: the smallest share of the budget that is enough."""

from __future__ import annotations

from mashup._report import numbers
from mashup._report.summary import SCRATCH, Rung, Summary


def ladder_sentences(summary: Summary) -> tuple[str, ...]:
    """For each arm of the ladder, with which budget it matches scratch's full run.

    Scratch itself is named only when less than its full budget was enough.
    """
    rungs = {(rung.arm, rung.budget): rung for rung in summary.ladder}
    full = rungs.get((SCRATCH, 1.0))
    if full is None:
        return ()
    arms = dict.fromkeys(rung.arm for rung in summary.ladder)
    return tuple(filter(None, (_sentence(arm, full, summary) for arm in arms)))


def _sentence(arm: str, full: Rung, summary: Summary) -> str:
    mine = [rung for rung in summary.ladder if rung.arm == arm]
    enough = next((rung for rung in mine if rung.dev_loss <= full.dev_loss), None)
    if enough == full:
        return ""
    if enough is None:
        return f"{arm} never reaches the dev loss of scratch's full run, with any budget."
    return (
        f"{arm} reaches the dev loss of scratch's full run with {100 * enough.budget:.0f} % of "
        f"the steps ({numbers.count(enough.steps)} against {numbers.count(full.steps)})."
    )
