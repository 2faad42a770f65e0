"""Arms of one seed: their intervals hold what other seeds may move."""

from dataclasses import replace

import pytest

from armresults import PLANS, Plan
from mashup._report.material import read_folders
from mashup._report.summarise import make_study, spread_of, widened
from mashup._report.tables import contrasts_table
from mashup._report.verdict import contrast_verdict, seed_note, target_verdict
from mashup._report.write import report
from mashup.results.statistics import Difference
from studies import write_study

SEEDS = (42, 43, 44)


def of_one_seed(records):
    """Without the runs of controls with other seeds."""
    return tuple(r for r in records if r.arm in ("scratch", "mashup") or r.seed in (42, -1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    (found,) = read_folders([write_study(tmp_path_factory.mktemp("seeds"), seeds=SEEDS)])
    return found


@pytest.fixture(scope="module")
def whole(folder):
    """Every arm with every seed."""
    return make_study(folder)


@pytest.fixture(scope="module")
def lone(folder):
    """The controls with one."""
    return make_study(replace(folder, records=of_one_seed(folder.records)))


def width(difference):
    return difference.high - difference.low


def test_one_seed_widens_what_is_said_of_it_and_nothing_else(whole, lone):
    for name in ("average-all", "random", "best-single"):
        for mine, theirs in (
            (lone.contrast(name), whole.contrast(name)),
            (lone.contrast("mashup", name), whole.contrast("mashup", name)),
        ):
            assert mine.gain.value == pytest.approx(theirs.gain.value)
            assert width(mine.gain) > width(theirs.gain)
            assert width(mine.loss) > width(theirs.loss)
            assert (mine.is_lone, theirs.is_lone) == (True, False)
    assert lone.contrast("mashup").gain == whole.contrast("mashup").gain
    assert not lone.contrast("mashup").is_lone


def test_what_is_added_is_the_variance_over_seeds(lone):
    target = lone.targets[0]
    scratch, single = target.arm("scratch"), target.arm("best-single")
    ends = [run.last.test_accuracy for run in scratch.runs]
    middle = sum(ends) / 3
    of_a_run = sum((end - middle) ** 2 for end in ends) / 2
    assert spread_of([scratch]).accuracy == pytest.approx(of_a_run)
    assert target.spread == spread_of(target.arms)
    found = widened(Difference(0.1, 0.1, 0.1), single, scratch, of_a_run)
    assert found.high - 0.1 == pytest.approx(1.96 * (2 * of_a_run) ** 0.5, rel=1e-3)
    assert 0.1 - found.low == pytest.approx(found.high - 0.1)


def test_an_untrained_arm_has_no_luck_and_draws_have_less(lone):
    target, sure = lone.targets[0], Difference(0.0, 0.0, 0.0)
    scratch, single, drawn = (target.arm(name) for name in ("scratch", "best-single", "random"))
    still = replace(single, trained=False)
    widths = [width(widened(sure, arm, scratch, 0.01)) ** 2 for arm in (single, drawn, still)]
    assert widths == pytest.approx([widths[0], widths[0] * 3 / 4, widths[0] / 2])


def test_arms_of_several_seeds_are_compared_as_they_were_recorded(whole):
    target, sure = whole.targets[0], Difference(0.0, 0.0, 0.0)
    assert target.seeds("random") == 3
    assert widened(sure, target.arm("random"), target.arm("scratch"), 0.01) == sure


def test_noise_of_one_seed_asks_for_seeds_and_not_for_examples(tmp_path):
    alike = Plan((1.7, 0.33), (0.92, 0.66 - 0.015))  # targets shift it by 0 to 3 points
    arms = {"scratch": PLANS["scratch"], "mashup": PLANS["mashup"], "best-single": alike}
    (folder,) = read_folders([write_study(tmp_path, seeds=SEEDS, arms=arms)])
    study = make_study(replace(folder, records=of_one_seed(folder.records)))
    told = "within noise at this size: needs more than one seed"
    assert contrast_verdict(study.contrast("best-single")) == told
    assert target_verdict(study.targets[1], "best-single") == told


def test_the_report_says_which_comparisons_are_of_one_seed(lone, whole, tmp_path):
    assert "On one seed, so that the interval includes the spread" in contrasts_table(lone).note
    assert "mashup − random" in contrasts_table(lone).note
    assert seed_note(lone).startswith("Some arms have one seed")
    assert seed_note(whole).startswith("Means over 3 seeds")
    assert "one seed" not in contrasts_table(whole).note.lower()
    report(write_study(tmp_path / "one", seeds=(42,)), tmp_path / "report")
    assert (
        "One seed: the intervals say nothing of other seeds"
        in (tmp_path / "report" / "report.md").read_text()
    )
