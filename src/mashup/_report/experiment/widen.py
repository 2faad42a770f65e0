"""The differences of a target, with the spread over seeds in those that are of a single seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mashup._report.experiment.seeds import Spread, spread_of, widened
from mashup._report.experiment.summary import Target
from mashup._report.summary import MASHUP, SCRATCH, ArmRow
from mashup.results.statistics import Difference


def over_seeds(target: Target) -> Target:
    """Every arm from scratch, and mashup from every other arm; as it is when none has several."""
    spread = spread_of(target.arms)
    if spread is None:
        return target
    return replace(
        target,
        arms=tuple(_from_scratch(arm, target.arm(SCRATCH), spread) for arm in target.arms),
        over=_from_mashup(target, target.over, spread.accuracy),
        over_loss=_from_mashup(target, target.over_loss, spread.loss),
        spread=spread,
    )


def _from_scratch(arm: ArmRow, scratch: ArmRow | None, spread: Spread) -> ArmRow:
    if scratch is None:
        return arm
    accuracy, loss = arm.accuracy_gain, arm.loss_gain
    return replace(
        arm,
        accuracy_gain=accuracy and widened(accuracy, arm, scratch, spread.accuracy),
        loss_gain=loss and widened(loss, arm, scratch, spread.loss),
    )


def _from_mashup(
    target: Target, gains: Mapping[str, Difference], of_a_run: float
) -> dict[str, Difference]:
    mashup = target.arm(MASHUP)
    pairs = ((target.arm(name), name, gain) for name, gain in gains.items())
    return {
        name: widened(gain, mashup, arm, of_a_run) for arm, name, gain in pairs if arm and mashup
    }
