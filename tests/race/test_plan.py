"""The rules of a race, on made-up dev losses."""

import numpy as np
import pytest

from mashup import UsageError
from mashup._race.plan import (
    DevPoint,
    Lane,
    difference,
    fits,
    judge,
    make_plan,
    reach,
    standing,
)

POINTS = (6, 12, 18, 24)


def point(step, *losses, tokens=1):
    return DevPoint(step, np.array(losses, dtype=float), np.full(len(losses), tokens))


def test_all_lanes_run_half_then_one_rate_a_start_then_two_starts():
    plan = make_plan(["merge", "all"], [1e-4, 3e-4, 1e-3], POINTS, None)
    assert [lane.name for lane in plan.lanes[:2]] == ["scratch-lr0.0001", "scratch-lr0.0003"]
    assert plan.rungs == (12, 18, 24)
    assert plan.most == 9 * 12 + 3 * 6 + 2 * 6


def test_one_lane_runs_through_and_one_start_keeps_one_rate():
    assert make_plan([], [1e-3], POINTS, None).rungs == (24,)
    assert make_plan([], [1e-3], POINTS, None).most == 24
    assert make_plan(["scratch"], [1e-4, 1e-3], POINTS, None).most == 2 * 12 + 12


def test_one_point_leaves_no_rung_before_the_end():
    assert make_plan(["merge"], [1e-3], (24,), None).rungs == (24,)


@pytest.mark.parametrize(
    ("budget", "rungs"),
    [(60, (6, 12, 24)), (72, (12, 18, 24)), (84, (18, 24)), (10**6, (24,))],
)
def test_a_budget_sets_the_first_rung(budget, rungs):
    plan = make_plan(["merge"], [1e-4, 1e-3], POINTS, budget)
    assert plan.most <= budget
    assert plan.rungs == rungs


def test_a_budget_that_no_plan_fits_is_refused_with_the_least():
    least = make_plan(["merge"], [1e-4, 1e-3], POINTS, 60).most
    assert least == 60
    with pytest.raises(UsageError, match=f"at least {least}"):
        make_plan(["merge"], [1e-4, 1e-3], POINTS, 20)
    assert not fits(["merge"], [1e-4, 1e-3], POINTS, 20)
    assert fits([], [1e-4, 1e-3], POINTS, 30)


def test_differences_are_paired_over_examples():
    one, other = point(1, 1.0, 2.0, 3.0, tokens=2), point(1, 1.5, 2.5, 3.5, tokens=2)
    value, error = difference(one, other)
    assert value == pytest.approx(-0.25)
    assert error == pytest.approx(0, abs=1e-12)  # the same for every example
    noisy = point(1, 2.0, 0.0, 4.0, tokens=2)
    d = np.array([1.0, -2.0, 1.0])
    expected = np.sqrt((d**2).sum() / 2 * 3) / 6
    assert difference(noisy, one) == (pytest.approx(0), pytest.approx(expected))


def test_a_lane_stands_by_its_best_point_or_by_its_last():
    curve = [point(0, 2.0), point(6, 1.0), point(12, 1.5)]
    assert standing(curve, "best").step == 6
    assert standing(curve, "last").step == 12
    assert standing([point(0, 2.0), point(6, np.nan)], "best").step == 0


def test_the_last_slope_straight_on_is_what_a_lane_can_reach():
    assert reach([point(0, 2.0), point(6, 1.4)], "best", 24) == 0
    assert reach([point(6, 1.4), point(12, 1.3)], "best", 24) == pytest.approx(1.1)
    assert reach([point(6, 1.3), point(12, 1.4)], "best", 24) == pytest.approx(1.3)
    assert reach([point(0, 2.0)], "best", 24) == 0


def lanes(**curves):
    return {Lane(name.split("_")[0], float(name.split("_")[1])): c for name, c in curves.items()}


def falling(first, by):
    return [point(0, first, first + 0.1), point(6, first - by, first - by + 0.1)]


def test_each_start_keeps_its_best_rate_after_the_first_rung():
    curves = lanes(
        scratch_1=falling(4, 2), scratch_3=falling(4, 3), merge_1=falling(2, 1.5),
        merge_3=falling(2, 0.2),
    )  # fmt: skip
    verdicts = judge(curves, 0, (6, 12, 24), "best")
    left = [one.lane for one in verdicts if not one.reason]
    assert left == [Lane("merge", 1), Lane("scratch", 3)]


def test_scratch_and_the_best_other_start_go_to_the_end():
    curves = lanes(scratch_1=falling(4, 2), merge_1=falling(2, 1.5), all_1=falling(2, 1.0))
    assert [o.lane.start for o in judge(curves, 0, (6, 12, 24), "best") if not o.reason] == [
        "merge", "all", "scratch",
    ]  # fmt: skip
    verdicts = judge(curves, 1, (6, 12, 24), "best")
    assert [o.lane.start for o in verdicts if not o.reason] == ["merge", "scratch"]
    assert judge(curves, 2, (6, 12, 24), "best")[1].reason == "behind at the end"


def test_who_cannot_overtake_the_first_is_given_up_also_scratch():
    slow = [point(6, 2.0, 2.1), point(12, 1.9, 2.0)]
    fast = [point(6, 0.2, 0.3), point(12, 0.1, 0.2)]
    verdicts = judge(lanes(scratch_1=slow, merge_1=fast), 1, (6, 12, 24), "best")
    assert [o.reason for o in verdicts] == ["", "cannot overtake the first"]
    noisy = [point(6, 0.3, 0.2), point(12, 0.0, 0.4)]  # the difference is within its noise
    verdicts = judge(lanes(scratch_1=noisy, merge_1=fast), 1, (6, 12, 24), "best")
    assert [o.reason for o in verdicts] == ["", ""]


def test_of_equals_scratch_is_first_and_lanes_that_diverged_are_last():
    same = falling(2, 1)
    broken = [point(0, 2.0, 2.0), point(6, np.nan, np.nan)]
    verdicts = judge(lanes(scratch_1=same, merge_1=same, all_1=broken), 0, (6, 12, 24), "last")
    assert [one.lane.start for one in verdicts] == ["scratch", "merge", "all"]
    assert verdicts[-1].reason == "cannot overtake the first"
